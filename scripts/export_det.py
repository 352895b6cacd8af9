"""Export a detector and verify the file: `python scripts/export_det.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
