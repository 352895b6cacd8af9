"""A COCO JSON to arrays. reader.py: `read_index`; index.py: `CocoIndex`; cache.py: what is kept of large JSONs.

json_text.py, annotations.py, masks_and_keypoints.py, run_lengths.py, values.py: a JSON's parts; problems.py: bad items.
"""
