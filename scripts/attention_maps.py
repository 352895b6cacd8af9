"""Draw what attention layers do to pictures: `python scripts/attention_maps.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["attention-maps", *sys.argv[1:]]))
