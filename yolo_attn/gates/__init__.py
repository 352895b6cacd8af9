"""Gates of a model's attention layers: watch.py takes them while it runs, statistics.py sums them up.

meter.py measures them on images as Ultralytics' predict takes them, without margins.
"""
