"""Validate a detector on COCO JSON: `python scripts/val_det.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["val", *sys.argv[1:]]))
