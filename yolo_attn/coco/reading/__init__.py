"""A COCO JSON to arrays. reader.py: `read_index`; index.py: `CocoIndex`; cache.py: what is kept of large JSONs.

annotations.py, masks_and_keypoints.py, json_text.py: parts of a JSON; problems.py: bad items, counted and listed.
"""
