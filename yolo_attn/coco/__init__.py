"""COCO JSON in, COCO's numbers out. reading/: JSON to arrays; dataset/: arrays to labelled images; evaluate.py: AP.

check.py and draw.py look through a data set for `check-data`; demo.py draws the demo set. Nothing here knows layers.
"""
