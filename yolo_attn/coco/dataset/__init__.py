"""Arrays to labelled images, of which Ultralytics makes batches.

locations.py, layouts.py, paths.py, data_keys.py: where files are, what a data YAML says; image_files.py: images;
splits.py, subsets.py: what is used of JSONs, joined sets; labels.py, dataset.py: for Ultralytics; data_report.py: what
is not used.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(
    __name__,
    {
        "locations": "load_source",
        "splits": "Split",
        "data_report": "examine",
        "dataset": "CocoDataset",
        "subsets": "join only_classes subset",
    },
)
