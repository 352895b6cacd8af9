"""Imports this package, which registers the layers, as every Python process starts that has this folder on its path."""

import yolo_attn  # noqa: F401  the import is what is wanted
