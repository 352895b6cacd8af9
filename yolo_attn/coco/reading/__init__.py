"""A COCO JSON to arrays. reader.py: `read_index`; index.py: `CocoIndex`; cache.py: what is kept of large JSONs.

json_text.py, annotations.py, masks_and_keypoints.py, run_lengths.py, oriented.py, values.py: a JSON's parts;
problems.py: bad items.
"""

from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.reader import read_index

__all__ = ["CocoIndex", "Problems", "read_index"]
