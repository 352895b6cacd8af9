"""Train a detector with attention on COCO JSON: `python scripts/train_det.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
