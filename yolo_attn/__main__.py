"""`python -m yolo_attn` is `yolo-attn`."""

import sys

from yolo_attn.cli import main

sys.exit(main())
