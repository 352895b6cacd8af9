"""What the commands share: the parser, types of options, and settings of Ultralytics' as key=value."""

import argparse
import ast
import contextlib
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml

from yolo_attn.coco import CACHE_VARIABLE, OUTSIDE_VARIABLE
from yolo_attn.environment import environment
from yolo_attn.errors import UserError
from yolo_attn.files import check_plain_file, check_writable, expanded

OPTIONS = ("data", "epochs", "split", "imgsz", "batch", "device", "seed", "project", "name")
"""Options of ours that are Ultralytics' settings under the same name."""

DATA_OPTIONS = {"subset": "fraction", "classes": "classes", "single_cls": "single_cls"}
"""Options of ours that choose a part of the data, and the Ultralytics' settings that they are."""

OPTION_OF = {
    **{name: f"--{name}" for name in OPTIONS},
    **{setting: f"--{name.replace('_', '-')}" for name, setting in DATA_OPTIONS.items()},
    "cfg": "--cfg",
    "model": "--cfg or --weights",
    "pretrained": "--weights",
    "resume": "--resume",
    "mode": "the command's name",
    "task": "--task",
    "format": "--format",
}
"""Ultralytics' settings that are given by an option, not as key=value."""

TASKS = ("detect", "segment", "pose", "obb", "classify")


class Parser(argparse.ArgumentParser):
    """Parser whose refusals are UserErrors, and that takes options by their whole names alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raise the refusal.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; see {self.prog} --help")


def add_data_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add what says which data is used, and which part of it.

    Args:
        parser: The command's parser.
        default: What is used without `--data`.
    """
    parser.add_argument(
        "--data",
        nargs="+",
        type=not_empty,
        help=f"COCO-format folder or data YAML; several are used as one, with categories joined by name; {default}",
    )
    parser.add_argument(
        "--subset", type=share, metavar="F", help="use a share of the images, such as 0.1; classes keep their shares"
    )
    parser.add_argument("--classes", type=names, metavar="A,B", help="only these classes, by name or number")
    parser.add_argument("--single-cls", action="store_true", default=None, help="take all classes as one")
    parser.add_argument("--strict", action="store_true", help="refuse data in which anything is left out or doubted")
    add_reader_options(parser)


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how data is read."""
    parser.add_argument(
        "--allow-outside", action="store_true", help="take pictures that lie outside their image folder"
    )
    parser.add_argument("--cache-dir", type=path, metavar="DIR", help="folder for what is kept of large data sets")


def reader_options(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """While it lasts, this process, and those that it starts, read data as the options say."""
    return environment({OUTSIDE_VARIABLE: "1" if args.allow_outside else None, CACHE_VARIABLE: args.cache_dir})


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what a training and a validation both take."""
    parser.add_argument("--task", choices=TASKS, help="refuse models of another task; default: the model's own")
    parser.add_argument("--imgsz", type=positive, help="picture size, pixels; default: 640, or the checkpoint's")
    parser.add_argument("--batch", type=positive, help="pictures a batch; default: 16")
    parser.add_argument("--device", help="0, 0,1, cpu; default: the GPU if there is one")
    parser.add_argument("--seed", type=seed, help="default: 0")
    parser.add_argument("--project", type=path, help="folder for run folders; default: runs/ and the task's name")
    parser.add_argument("--name", type=name, help="name of the run folder; default: train or val, numbered")
    add_import_option(parser)
    parser.usage = f"{parser.prog} [options] [key=value ...]"
    parser.epilog = "key=value: any further Ultralytics setting, such as lr0=0.005 mosaic=0"


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="have Ultralytics read the checkpoint, which runs what the file names; default: nothing of it is run",
    )


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import`, which `main` heeds before any command runs."""
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="module that registers layers of your own",
    )


def add_output_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add what a command that writes a model YAML takes."""
    hint = "model YAML to write" + ("" if required else "; without it, changes are only told")
    parser.add_argument("-o", "--output", required=required, type=not_empty, metavar="FILE", help=hint)
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def check_output(output: Path, force: bool) -> None:
    """Make sure that a model YAML may be written.

    Args:
        output: The file to write.
        force: Whether it may be there already.

    Raises:
        UserError: If it is no YAML's name, is there already, its folder is not, or it cannot be written.
    """
    if output.suffix not in {".yaml", ".yml"} or not output.name.isprintable():
        raise UserError(f"-o {str(output)!r}: expected the name of a YAML file, such as yolov8n-gam.yaml")
    if output.is_dir() or ((output.exists() or output.is_symlink()) and not force):
        raise UserError(f"-o {output}: it is there already; choose another name, or --force to write over a file")
    if output.exists():
        check_plain_file(output, f"-o {output}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"-o {output}: there is no folder {output.parent}; create it first")
    check_writable(output.absolute().parent, "-o")


def no_more(command: str, further: list[str]) -> None:
    """Refuse arguments that a command does not know.

    Raises:
        UserError: With the first.
    """
    if further:
        raise UserError(f"{further[0]!r}: unknown to {command}; see yolo-attn {command} --help")


def option(text: str) -> tuple[str, Any]:
    """An option of a layer and its value, as in a model YAML."""
    name, equals, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"expected a value as in YAML, such as 8 or [20, 20], found {text!r}"
        ) from error
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected name=value, such as ratio=8, found {text!r}")
    return name, parsed


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that every random generator takes."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**32 - 1, found {text!r}")
    return int(text)


def strength(text: str) -> float:
    """A finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, such as 1e-4, found {text!r}")
    return number


def share(text: str) -> float:
    """A number above 0, up to 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0, up to 1, such as 0.1, found {text!r}")
    return number


def names(text: str) -> list[str]:
    """Names with commas between."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names with commas between, such as person,car, found {text!r}")
    return found


def not_empty(text: str) -> str:
    """Text that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def path(text: str) -> str:
    """An absolute path, so that a run can go on from another folder."""
    return str(expanded(not_empty(text)).absolute())


def name(text: str) -> str:
    """The name of a folder inside another."""
    if Path(not_empty(text)).is_absolute() or {"..", "."} & set(text.split("/")) or len(text) > 200:
        raise argparse.ArgumentTypeError(f"expected a folder name of at most 200 characters, found {text!r}")
    return text


def data_sets(texts: Sequence[str]) -> list[Path]:
    """The data sets that arguments name, by absolute paths as `path` makes them."""
    from yolo_attn.coco.source import parts_of

    return [part.absolute() for text in texts for part in parts_of(text)]


def settings(args: argparse.Namespace, further: list[str]) -> dict[str, Any]:
    """The options that were given, as Ultralytics' settings, with the key=value ones.

    Raises:
        UserError: If an argument is no key=value, or one that an option gives.
    """
    options = (*OPTIONS, *DATA_OPTIONS)
    given: dict[str, Any] = {option: getattr(args, option, None) for option in options if option != "project"}
    given = {DATA_OPTIONS.get(option, option): value for option, value in given.items() if value is not None}
    if "data" in given:
        from yolo_attn.coco.source import as_setting

        sets = [text for text in given["data"] if not _is_setting(text)]
        further = [*(text for text in given["data"] if _is_setting(text)), *further]
        if not sets:
            raise UserError("--data: expected a COCO-format folder or a data YAML")
        given["data"] = as_setting(data_sets(sets))
    for text in further:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            near = get_close_matches(key, [f"--{name.replace('_', '-')}" for name in vars(args)], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{text!r}: expected an option or key=value{hint}")
        if key in OPTIONS and not hasattr(args, key):
            raise UserError(f"{text!r}: means nothing to this command")
        if key in OPTION_OF:
            raise UserError(f"{text!r}: give this by {OPTION_OF[key]}")
        given[key] = _value(value)
    return given


def _is_setting(text: str) -> bool:
    """Whether it is a key=value that stands behind `--data`, and no path."""
    return text.partition("=")[0].isidentifier() and "=" in text and not Path(text).exists()


def _value(text: str) -> Any:
    """A setting's value: a Python literal where it is one, else the text itself."""
    if text.lower() in {"true", "false", "none"}:
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
