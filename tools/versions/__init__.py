"""`python -m tools.versions`: steps on many releases of Ultralytics, PyTorch and Python."""
