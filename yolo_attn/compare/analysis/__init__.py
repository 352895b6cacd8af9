"""What the numbers show. verdicts.py: `results_of`, by seeds.py (statistics over seeds) and images.py (over images).

scoring.py has what models are scored by. images.py matches detections (detections.py) or reads the answers of
classifiers (answers.py), and resamples images (bootstrap.py).
"""

from yolo_attn.compare.analysis.scoring import scoring_of
from yolo_attn.compare.analysis.verdicts import results_of

__all__ = ["results_of", "scoring_of"]
