"""A checkpoint's tensors find their rows; initial gains; state dicts."""
