"""Validation by COCO's numbers: validator.py, a validator of each task.

coordinates.py brings detections back into the image; metrics.py puts COCO's numbers among Ultralytics'.
"""
