"""Arrays to batches: where files are, parts of data sets, labels."""
