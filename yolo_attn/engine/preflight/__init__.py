"""What is checked before a run begins, so that a mistake costs one line."""
