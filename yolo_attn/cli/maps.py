"""`yolo-attn attention-maps`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_model_options, not_empty, path, positive, share


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "attention-maps",
        help="draw what each attention layer does to images, and how far its gate is from a constant",
        description="Writes PNGs, a page that shows them (index.html), and gate statistics (gates.json).",
    )
    parser.add_argument("--weights", required=True, type=not_empty, help="checkpoint with attention")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--source", nargs="+", type=path, help="images, patterns, and folders of images")
    images.add_argument(
        "--data",
        type=path,
        help="COCO-format data, whose ground truth is drawn beside; classifiers: a folder with one for each split",
    )
    parser.add_argument("--split", choices=["train", "val", "test"], default="val", help="of --data; default: val")
    parser.add_argument("--base", type=not_empty, help="checkpoint whose detections or classes are drawn beside")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="folder to write into; default: runs/attention-maps, numbered"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write into DIR even if it holds files, and overwrite those of an earlier run",
    )
    parser.add_argument("--pictures", type=positive, default=8, metavar="N", help="images to draw; default: 8")
    parser.add_argument(
        "--limit", type=positive, default=256, metavar="N", help="images to measure the gates on; default: 256"
    )
    parser.add_argument("--imgsz", type=positive, help="image size, pixels; default: the checkpoint's")
    parser.add_argument("--conf", type=share, help="least confidence of drawn detections; default: 0.25")
    parser.add_argument("--device", help="0, cpu; default: the GPU if there is one")
    add_model_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Draw and measure, and print the statistics."""
    from yolo_attn.maps.attention_maps import PAGE, draw_maps

    given = {name: getattr(args, name) for name in ("imgsz", "conf", "device") if getattr(args, name) is not None}
    found = draw_maps(
        args.weights,
        list(map(Path, args.source or ())),
        Path(args.output) if args.output else None,
        args.base,
        given,
        args.pictures,
        args.limit,
        args.trust,
        args.force,
        args.data,
        args.split,
    )
    print(*found.lines(), sep="\n")
    print(f"\n{found.folder / PAGE}: images drawn: {found.drawn:,}; gates measured on: {found.measured:,}")
