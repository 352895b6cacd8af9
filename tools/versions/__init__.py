"""`python -m tools.versions`: the steps on many releases of Ultralytics, PyTorch and Python; writes docs/versions.md."""
