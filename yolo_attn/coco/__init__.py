"""COCO JSON in, COCO's numbers out; knows no layers."""

CACHE_VARIABLE = "YOLO_ATTN_CACHE"
"""Names the folder of what is kept from one run to the next."""

OUTSIDE_VARIABLE = "YOLO_ATTN_ALLOW_OUTSIDE"
"""Set to 1, it lets file names lead out of their image folder."""
