"""The command line: `yolo-attn train`, `yolo-attn val`, and the scripts of the same content."""

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from yolo_attn import __version__
from yolo_attn.errors import UserError

OPTIONS = ("data", "epochs", "split", "imgsz", "batch", "device", "seed", "project", "name")
"""Options of ours that are Ultralytics' settings under the same name."""

OPTION_OF = {
    **{name: f"--{name}" for name in OPTIONS},
    "cfg": "--cfg",
    "model": "--cfg or --weights",
    "pretrained": "--weights",
    "resume": "--resume",
    "mode": "the command's name",
    "task": "--task",
}
"""Ultralytics' settings that are given by an option, not as key=value."""

TASKS = ("detect", "segment", "pose", "obb", "classify")

RESUMABLE = ("imgsz", "batch", "device", "workers", "cache", "patience", "plots", "val", "save_period", "close_mosaic")
"""Settings that a cut-off training may go on with changed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, 2 after a user's mistake, told in one line."""
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        args, further = _parser().parse_known_args(arguments)
        args.run(args, further)
    except UserError as error:
        print(f"yolo-attn: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("yolo-attn: stopped; a training that has a last.pt goes on with train --resume", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="yolo-attn", description="Attention layers in Ultralytics YOLO.")
    parser.add_argument("--version", action="version", version=f"yolo-attn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a detector and report COCO's AP")
    train.set_defaults(run=_train)
    train.add_argument("--cfg", type=_text, help="model YAML, such as yolov8n-gam.yaml")
    train.add_argument(
        "--data", type=_path, help="COCO-format folder or data YAML; default: a demo set, drawn on first use"
    )
    train.add_argument("--epochs", type=_positive, help="default: 100; the demo set: its own")
    train.add_argument("--weights", type=_text, help="checkpoint to start from; default: none, train from scratch")
    train.add_argument(
        "--resume",
        nargs="?",
        const=True,
        type=_text,
        metavar="LAST.PT",
        help="go on with a cut-off run; without a file, the newest under --project",
    )
    train.add_argument(
        "--nam-sparsity", type=float, metavar="P", help="NAM's penalty P·Σ|γ|, such as 1e-4; default: none"
    )
    _add_common(train)

    val = commands.add_parser("val", help="validate a checkpoint and report COCO's numbers")
    val.set_defaults(run=_val)
    val.add_argument(
        "--weights", required=True, help="checkpoint to validate, such as runs/detect/train/weights/best.pt"
    )
    val.add_argument(
        "--data", type=_path, help="COCO-format folder or data YAML; default: the one that the checkpoint learnt from"
    )
    val.add_argument("--split", choices=["train", "val", "test"], default="val", help="default: val")
    _add_common(val)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=TASKS, help="refuse models of another task; default: the model's own")
    parser.add_argument("--imgsz", type=_positive, help="picture size, pixels; default: 640, or the checkpoint's")
    parser.add_argument("--batch", type=_positive, help="pictures a batch; default: 16")
    parser.add_argument("--device", help="0, 0,1, cpu; default: the GPU if there is one")
    parser.add_argument("--seed", type=_seed, help="default: 0")
    parser.add_argument("--project", type=_path, help="folder for run folders; default: runs/ and the task's name")
    parser.add_argument("--name", type=_name, help="name of the run folder; default: train or val, numbered")
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="module that registers layers of your own",
    )
    parser.usage = f"{parser.prog} [options] [key=value ...]"
    parser.epilog = "key=value: any further Ultralytics setting, such as lr0=0.005 mosaic=0"


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**32 - 1, found {text!r}")
    return int(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _path(text: str) -> str:
    """An absolute path, so that a run can go on from another folder."""
    return str(Path(_text(text)).expanduser().absolute())


def _name(text: str) -> str:
    if Path(_text(text)).is_absolute() or {"..", "."} & set(text.split("/")) or len(text) > 200:
        raise argparse.ArgumentTypeError(f"expected a folder name of at most 200 characters, found {text!r}")
    return text


def _train(args: argparse.Namespace, further: list[str]) -> None:
    from yolo_attn.engine.run import import_modules, resume, train

    import_modules(args.modules)

    if args.resume:
        settings = _settings(args, further)
        fixed = {"--cfg": args.cfg, "--weights": args.weights, "--nam-sparsity": args.nam_sparsity}
        fixed |= {f"--{key}" if key in OPTIONS else key: v for key, v in settings.items() if key not in RESUMABLE}
        fixed.pop("--data", None)
        given = [name for name, value in fixed.items() if value is not None]
        if given:
            raise UserError(
                f"{given[0]} cannot change when a training goes on; with --resume only these can: --data, --imgsz, "
                f"--batch, --device, {', '.join(name for name in RESUMABLE if name not in OPTIONS)}"
            )
        resume(args.resume, args.project, settings, args.task)
    elif not args.cfg:
        raise UserError("train needs --cfg, such as --cfg yolov8n-gam.yaml")
    else:
        train(args.cfg, args.project, args.weights, _settings(args, further), args.nam_sparsity, args.task)


def _val(args: argparse.Namespace, further: list[str]) -> None:
    from yolo_attn.engine.run import import_modules, validate

    import_modules(args.modules)

    validate(args.weights, args.project, _settings(args, further), args.task)


def _settings(args: argparse.Namespace, further: list[str]) -> dict[str, Any]:
    """The options that were given, as Ultralytics' settings, with the key=value ones."""
    given = {name: getattr(args, name, None) for name in OPTIONS if name != "project"}
    given = {name: value for name, value in given.items() if value is not None}
    for text in further:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"{text!r}: expected an option or key=value")
        if key in OPTIONS and not hasattr(args, key):
            raise UserError(f"{text!r}: means nothing to this command")
        if key in OPTION_OF:
            raise UserError(f"{text!r}: give this by {OPTION_OF[key]}")
        given[key] = _value(value)
    return given


def _value(text: str) -> Any:
    """A setting's value: a Python literal where it is one, else the text itself."""
    if text.lower() in {"true", "false", "none"}:
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
