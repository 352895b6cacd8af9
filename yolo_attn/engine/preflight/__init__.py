"""What is checked before a run begins, so that a mistake costs one line.

checks.py: settings, models and checkpoints; data_checks.py: data.
"""
