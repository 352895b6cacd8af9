"""A COCO JSON to arrays."""
