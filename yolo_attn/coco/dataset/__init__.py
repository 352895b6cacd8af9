"""Arrays to labelled images, of which Ultralytics makes batches.

locations.py, paths.py, data_keys.py: where files are, what a data YAML says; image_files.py: its images; subsets.py:
parts of sets, joined sets; labels.py, dataset.py: for Ultralytics; data_report.py: what is not used.
"""
