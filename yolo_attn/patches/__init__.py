"""Everything that is changed in Ultralytics, one table, and what it calls."""
