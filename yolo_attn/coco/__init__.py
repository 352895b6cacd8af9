"""COCO JSON in, COCO's numbers out. reading/: JSON to arrays; dataset/: arrays to labelled images; evaluate.py: AP.

check.py and draw.py look through a data set for `check-data`; demo.py draws the demo set. Nothing here knows layers.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(
    __name__,
    {
        "check": "check_data",
        "demo": "demo_dataset",
        "draw": "draw_suspects",
        "evaluate": "CocoScores Detections coco_scores",
        "split": "divide",
    },
)
