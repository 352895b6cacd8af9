"""A COCO JSON to arrays. reader.py: `read_index`; index.py: `CocoIndex`; cache.py: what is kept of large JSONs.

annotations.py, masks_and_keypoints.py, json_text.py: parts of a JSON; problems.py: bad items, counted and listed.
"""

from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.reader import read_index

__all__ = ["CocoIndex", "Problems", "read_index"]
