"""Put attention into a model YAML: `python scripts/insert_attention.py --help`."""

import sys

from yolo_attn.cli import main

sys.exit(main(["insert", *sys.argv[1:]]))
