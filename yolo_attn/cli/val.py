"""`yolo-attn val`."""

import argparse
from typing import Any

from yolo_attn.cli.arguments import add_data_options, add_run_options, reader_options, settings


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("val", help="validate a checkpoint and report COCO's numbers")
    parser.add_argument(
        "--weights", required=True, help="checkpoint to validate, such as runs/detect/train/weights/best.pt"
    )
    add_data_options(parser, "default: the checkpoint's training data")
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="default: val")
    add_run_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Validate a checkpoint."""
    from yolo_attn.engine.api import validate

    with reader_options(args):
        validate(args.weights, args.project, settings(args, further), args.task, args.trust, args.strict)
