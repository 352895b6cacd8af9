"""`yolo-attn split`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_reader_options, not_empty, path, reader_options, seed, share
from yolo_attn.errors import UserError


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "split",
        help="divide one COCO JSON into train, val and perhaps test; the data stays as it is",
        description="Writes a data YAML and lists of image ids into a folder elsewhere; classes keep their shares.",
    )
    parser.add_argument("json", type=not_empty, metavar="JSON", help="COCO JSON, or a folder that has just one")
    parser.add_argument("--val", type=share, default=0.2, metavar="F", help="share of the images; default: 0.2")
    parser.add_argument("--test", type=share, metavar="F", help="share of the images; default: no test split")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed divides alike; default: 0")
    parser.add_argument("--group-by", choices=["folder"], help="keep images of a folder together, such as of one video")
    parser.add_argument("--images", type=path, metavar="DIR", help="folder of the images; default: looked for")
    parser.add_argument("-o", "--output", required=True, type=path, metavar="FOLDER", help="folder to write into")
    parser.add_argument("--force", action="store_true", help="write into FOLDER even if it holds files")
    add_reader_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Divide, and print how many of each class are in each split."""
    from yolo_attn.coco.split import divide, write
    from yolo_attn.files import expanded

    shares = {"val": args.val, **({"test": args.test} if args.test else {})}
    if sum(shares.values()) >= 1:
        raise UserError(f"--val {args.val:g} --test {args.test or 0:g}: nothing is left to train on")
    with reader_options(args):
        images = Path(args.images) if args.images else None
        division = divide(expanded(args.json), shares, args.seed, bool(args.group_by), images)
        file = write(division, Path(args.output), args.force)
    print(*division.lines(), sep="\n")
    print(f"\n{file}: train on it by yolo-attn train --cfg yolov8n-gam.yaml --data {file}")
