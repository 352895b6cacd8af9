"""`yolo-attn check-data`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_class_options, add_reader_options, data_sets, not_empty, path, reader_options
from yolo_attn.errors import UserError


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "check-data",
        help="check COCO-format data and list what would be skipped or clipped, or is suspicious",
        description="Reads every split of the data and the size of every image; trains nothing.",
    )
    parser.add_argument(
        "data",
        nargs="+",
        type=not_empty,
        metavar="DATA",
        help="COCO-format folder, data YAML, or one JSON; several count as one",
    )
    parser.add_argument(
        "--task",
        choices=["detect", "segment", "pose", "obb"],
        default="detect",
        help="annotations to check; default: detect",
    )
    parser.add_argument("--strict", action="store_true", help="exit code 2 if there is any problem")
    parser.add_argument(
        "--pictures", type=path, metavar="OUT", help="folder for drawings of the suspicious boxes and a full report"
    )
    parser.add_argument("--force", action="store_true", help="write into OUT even if it holds files")
    add_reader_options(parser)
    add_class_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Print what of the data is used and what is not."""
    from yolo_attn.coco.check import check_data, problem_count, tables
    from yolo_attn.coco.dataset.data_report import shared_images
    from yolo_attn.coco.draw import draw_suspects
    from yolo_attn.files import check_output_folder

    output = Path(args.pictures) if args.pictures else None
    if output:
        check_output_folder(output, "--pictures", args.force)
    with reader_options(args):
        examined = check_data(data_sets(args.data), args.task, output)
    reports = {split: found.report for split, found in examined.items()}
    shared = shared_images(examined)
    print(*tables(reports), *shared, sep="\n", flush=True)
    if "all" in reports:
        command = f"yolo-attn split {shlex.quote(args.data[0])} -o FOLDER"
        print(f"\nOne JSON without splits: {command} divides it for a training.")
    if output:
        print(f"\n{output}: data_report.json, and drawings of suspicious boxes: {draw_suspects(examined, output)}")
    count = problem_count(reports.values())
    if args.strict and shared:
        raise UserError(f"--strict: {shared[0]}")
    if args.strict and count:
        raise UserError(f"--strict: {' '.join(args.data)}: skipped, clipped or suspicious items: {count:,}")
