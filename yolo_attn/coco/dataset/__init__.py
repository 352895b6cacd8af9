"""Arrays to labelled images, of which Ultralytics makes batches.

locations.py, paths.py, data_keys.py: where files are, what a data YAML says; image_files.py: its images; subsets.py:
parts of sets, joined sets; labels.py, dataset.py: for Ultralytics; data_report.py: what is not used.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(
    __name__,
    {
        "locations": "Split load_source",
        "data_report": "examine",
        "dataset": "CocoDataset",
        "subsets": "join only_classes subset",
    },
)
