"""`yolo-attn val`."""

import argparse
from typing import Any

from yolo_attn.cli.arguments import add_data_options, add_run_options, area_ranges, max_dets, reader_options, settings


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("val", help="validate a checkpoint and report COCO's numbers")
    parser.add_argument(
        "--weights", required=True, help="checkpoint to validate, such as runs/detect/train/weights/best.pt"
    )
    add_data_options(parser, "default: the checkpoint's training data")
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="default: val")
    parser.add_argument(
        "--max-dets",
        type=max_dets,
        metavar="A,B,C",
        help="detections of an image and class that count, for keypoints one number; default: COCO's 1,10,100, and 20",
    )
    parser.add_argument(
        "--area-ranges",
        type=area_ranges,
        metavar="S,M",
        help="areas, pixels², up to which an object is small, and medium; default: COCO's 1024,9216",
    )
    add_run_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Validate a checkpoint."""
    from yolo_attn.coco.evaluate import Rules
    from yolo_attn.engine.api import validate

    rules = Rules(args.max_dets or (), args.area_ranges or ())
    with reader_options(args):
        validate(args.weights, args.project, settings(args, further), args.task, args.trust, args.strict, rules)
