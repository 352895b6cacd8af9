"""Compare attention layers under one budget: `python scripts/compare_det.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
