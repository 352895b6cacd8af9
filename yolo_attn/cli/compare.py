"""`yolo-attn compare`."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import (
    add_class_options,
    add_data_options,
    add_model_options,
    add_stretch_option,
    not_empty,
    option,
    path,
    positive,
    reader_options,
    seed,
    settings,
)
from yolo_attn.errors import UserError
from yolo_attn.yaml_edit import PLACES

EXAMPLE = """

layers: LAYER, LAYER@PLACE, LAYER:option=value:option=value@PLACE, separated by commas

examples:
  yolo-attn compare --base yolov8n.yaml --layers SimAM,NAM,GAM --at neck --data path/to/coco --seeds 0,1,2
  yolo-attn compare --base yolo11n.yaml --layers GAM:ratio=8:groups=4,SimAM:where=pre_bn@blocks --equal-gflops
  yolo-attn compare --base yolov8n-cls.yaml --layers SimAM,GAM --at backbone --data path/to/classes
  yolo-attn compare --output runs/compare/yolov8n --report-only

The same command again completes a comparison: finished trainings stay, interrupted and failed ones start over.
More --layers and --seeds can be added later. Verdicts err as rarely as the report says only if all seeds were fixed
before any result was known; two seeds are few, and one shows nothing."""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "compare",
        help="train a model with and without attention on one budget and several seeds, and report what helped",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE,
    )
    parser.add_argument("--base", type=not_empty, help="model YAML without attention, such as yolov8n.yaml")
    parser.add_argument(
        "--layers", type=layers, metavar="LAYER,...", help="attention to insert, each by itself; see below"
    )
    parser.add_argument(
        "--at",
        default="neck",
        metavar="PLACE",
        help=f"place of layers without @PLACE; default: neck; {', '.join(PLACES)}",
    )
    add_data_options(parser, "default: a demo set, drawn on first use")
    add_class_options(parser)
    parser.add_argument("--seeds", type=seeds, default=[0, 1, 2], metavar="A,B", help="default: 0,1,2")
    parser.add_argument("--epochs", type=positive, help="epochs of each training; default: 100; the demo set: its own")
    parser.add_argument(
        "--weights", type=not_empty, help="checkpoint that all trainings start from; default: none, train from scratch"
    )
    parser.add_argument("--imgsz", type=positive, help="image size, pixels; default: 640")
    parser.add_argument("--batch", type=positive, help="images in a batch; default: 16")
    add_stretch_option(parser)
    parser.add_argument("--device", help="cpu, 0, or 0,1,2 to share the trainings; default: all GPUs")
    parser.add_argument("--parallel", type=positive, default=1, metavar="N", help="trainings at once on each device")
    parser.add_argument(
        "--equal-gflops",
        action="store_true",
        help="for each variant that needs more GFLOPs than the base, also train a wider base that needs as many",
    )
    parser.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder of the comparison; default: runs/compare/ and the base's name",
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="only write the report again; default folder: the base's, or the latest",
    )
    add_model_options(parser, "lr0=0.005 mosaic=0")


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Compare, or only write the report again."""
    from yolo_attn.compare.pipeline import Comparison, compare
    from yolo_attn.compare.planning.variants import Wanted
    from yolo_attn.compare.report.writer import write_report
    from yolo_attn.compare.study_folder import read_study
    from yolo_attn.engine.api import Training

    if args.report_only:
        if further:
            raise UserError(f"{further[0]!r}: unknown to compare --report-only; see yolo-attn compare --help")
        folder = Path(args.output) if args.output else _default(args.base)
        report = write_report(read_study(folder))
        print(*report.verdicts, report.page, sep="\n")
        return
    if not args.base or not args.layers:
        raise UserError(f"compare needs --{'layers' if args.base else 'base'}; see yolo-attn compare --help")
    shared = settings(args, further)
    shared.pop("device", None)
    devices = () if args.device is None else args.device.split(",")
    if not all(device.strip() for device in devices):
        raise UserError(f"--device {args.device!r}: expected devices separated by commas, such as 0,1")
    wanted = [Wanted(name, at or args.at, options) for name, options, at in args.layers]
    output = args.output or str(_default(args.base))
    comparison = Comparison(
        Training(args.base, shared, output, args.weights, stretch=args.stretch, strict=args.strict, trust=args.trust),
        wanted,
        args.seeds,
        devices,
        args.parallel,
        args.equal_gflops,
        modules=args.modules,
        command=shlex.join(["yolo-attn", *args.typed]),
    )
    try:
        with reader_options(args):
            report = compare(comparison)
        print(*report.verdicts, report.page, sep="\n")
    except KeyboardInterrupt as stop:
        stop.args = ("the same command completes the comparison",)
        raise


def _default(base: str | None) -> Path:
    """The folder of the base's comparison where none is given; without a base the latest."""
    home = Path("runs", "compare").absolute()
    if base:
        return home / Path(base).stem
    found = sorted(home.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserError(f"--report-only: no comparison under {home}; give its folder by --output")
    return found[-1].parent


def layers(text: str) -> list[tuple[str, dict[str, Any], str | None]]:
    """Return layers with their options and, if given, their place."""
    found = []
    for word in re.split(r",(?!\d)(?![^\[]*\])", text):  # not between rows, @after:4,6, or in lists, [a, b]
        left, at, place = word.partition("@")
        name, *options = left.split(":")
        if not name.strip() or (at and not place):
            raise argparse.ArgumentTypeError(
                f"expected LAYER:option=value@PLACE, such as GAM:ratio=8@neck, found {word!r}"
            )
        given = list(map(option, options))
        if len(dict(given)) < len(given):
            raise argparse.ArgumentTypeError(f"expected each option once, found {word!r}")
        found.append((name.strip(), dict(given), place or None))
    return found


def seeds(text: str) -> list[int]:
    """Return seeds separated by commas, each once."""
    found = [seed(word.strip()) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected each seed once, found {text!r}")
    return found
