"""What writes files of this repository: model_yamls.py, golden_checkpoints.py, and versions/ for docs/versions.md."""
