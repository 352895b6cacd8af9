"""What the numbers show. verdicts.py: `results_of`, by seeds.py (statistics over seeds) and images.py (over images).

images.py matches detections (detections.py) and resamples images (bootstrap.py).
"""

from yolo_attn.compare.analysis.images import examine_images
from yolo_attn.compare.analysis.verdicts import results_of

__all__ = ["examine_images", "results_of"]
