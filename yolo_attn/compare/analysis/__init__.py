"""What the numbers show. verdicts.py: `results_of`, by seeds.py (statistics over seeds) and images.py (over images).

images.py matches detections (detections.py) and resamples images (bootstrap.py).
"""
