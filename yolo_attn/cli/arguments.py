"""What commands share: the parser, option types, common options, and Ultralytics' settings as key=value."""

import argparse
import ast
import contextlib
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from yolo_attn.environment import (
    CACHE_VARIABLE,
    CROWDS_VARIABLE,
    OUTSIDE_VARIABLE,
    UNUSED_VARIABLE,
    environment,
)
from yolo_attn.errors import UserError, did_you_mean, similar
from yolo_attn.files import check_plain_file, check_writable, expanded

OPTIONS = ("data", "epochs", "split", "imgsz", "batch", "device", "seed", "project", "name")
"""Our options that are Ultralytics' settings of the same name."""

DATA_OPTIONS = {"subset": "fraction", "classes": "classes", "single_cls": "single_cls"}
"""Our options that choose a part of the data, and Ultralytics' settings for them."""

OPTION_OF = {
    **{name: f"--{name}" for name in OPTIONS},
    **{setting: f"--{name.replace('_', '-')}" for name, setting in DATA_OPTIONS.items()},
    "pretrained": "--weights",
    "resume": "--resume",
    "task": "--task",
    "format": "--format",
}
"""Ultralytics' settings that mean the same as options of ours."""

ELSEWHERE = {"cfg": "--cfg", "model": "--cfg or --weights", "mode": "the command's name"}
"""Ultralytics' settings that are refused as key=value, and what to use instead."""

TASKS = ("detect", "segment", "pose", "obb", "classify")


class Parser(argparse.ArgumentParser):
    """A parser that reports mistakes as UserErrors, and that takes options by their whole names alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options: dict[str, argparse.Action] = {}
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument, and remember it by its names."""
        action = super().add_argument(*names, **kwargs)
        self.options |= dict.fromkeys(names, action)
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; settings of Ultralytics' that an option stands for are read as that option."""
        if args and self.get_default("takes_settings"):
            args = self._as_options(list(args))
        return super().parse_known_args(args, namespace)

    def _as_options(self, arguments: list[str]) -> list[str]:
        found: list[str] = []
        for text in arguments:
            key, equals, value = text.partition("=")
            name = OPTION_OF.get(key, "")
            option, before = self.options.get(name), self.options.get(found[-1]) if found else None
            if not equals or option is None or (before and (before.nargs in {None, "+"} or Path(text).exists())):
                found.append(text)  # or the value of an option
            elif any(each.partition("=")[0] == name for each in (*arguments, *found)):
                raise UserError(f"{text!r}: given more than once, as {key}=… or as {name}")
            else:
                found += _as_option(text, name, option, value)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def _as_option(text: str, name: str, option: argparse.Action, value: str) -> list[str]:
    """Return a setting as the option that stands for it; nothing where its value says that it is not given."""
    yes, no = value.lower() in {"true", "1"}, value.lower() in {"false", "0", "none"}
    if option.nargs == 0:
        if not yes and not no:
            raise UserError(f"{text!r}: expected True or False")
        return [name] if yes else []
    if value.lower() == "none" or (no and name in {"--resume", "--weights"}):
        return []
    if yes and option.nargs == "?":
        return [name]
    listed = _value(value) if value.startswith(("[", "(")) else value
    return [f"{name}={','.join(map(str, listed)) if isinstance(listed, list | tuple) else listed}"]


def add_data_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options that choose the data, or a part of it; `default` says what is used without `--data`."""
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
    parser.add_argument(
        "--strict", action="store_true", help="refuse data with any skipped, clipped or suspicious item"
    )
    add_reader_options(parser)


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that change how data is read."""
    parser.add_argument(
        "--crowds-as-objects", action="store_true", help="take annotations with iscrowd as objects like others"
    )
    parser.add_argument("--allow-outside", action="store_true", help="use images outside their image folder")
    parser.add_argument("--cache-dir", type=path, metavar="DIR", help="folder for the cache of large data sets")


def reader_options(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Set how this process and its children read data, within the context."""
    switches = {
        OUTSIDE_VARIABLE: args.allow_outside,
        CROWDS_VARIABLE: args.crowds_as_objects,
        UNUSED_VARIABLE: getattr(args, "drop_unused", False),
    }
    given = {variable: "1" if on else None for variable, on in switches.items()}
    return environment({**given, CACHE_VARIABLE: args.cache_dir})


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Add the option that decides which categories are classes of a training."""
    parser.add_argument(
        "--drop-unused", action="store_true", help="skip categories that no annotation of train and val uses"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both training and validation."""
    parser.add_argument("--task", choices=TASKS, help="refuse models of another task; default: the model's own")
    parser.add_argument("--imgsz", type=positive, help="image size, pixels; default: 640, or the checkpoint's")
    parser.add_argument("--batch", type=positive, help="images in a batch; default: 16")
    parser.add_argument("--device", help="0, 0,1, cpu; default: the GPU if there is one")
    parser.add_argument("--seed", type=seed, help="default: 0")
    parser.add_argument("--project", type=path, help="folder for run folders; default: runs/ and the task's name")
    parser.add_argument("--name", type=name, help="name of the run folder; default: train or val, numbered")
    add_model_options(parser, "lr0=0.005 mosaic=0")


def add_model_options(parser: argparse.ArgumentParser, example: str = "") -> None:
    """Add `--trust` and `--import`, and let a command take key=value if it has an example of it."""
    if example:
        parser.set_defaults(takes_settings=True)
        parser.usage = f"{parser.prog} [options] [key=value ...]"
        parser.epilog = f"key=value: any further Ultralytics setting, such as {example}{parser.epilog or ''}"
    add_import_option(parser)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="have Ultralytics load the checkpoint, which runs code that the file names; default: run none of it",
    )


def add_stretch_option(parser: argparse.ArgumentParser) -> None:
    """Add `--stretch`."""
    parser.add_argument(
        "--stretch",
        action="store_true",
        help="classifiers: resize images to a square instead of cropping them; also a key of model YAMLs",
    )


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import`, which `main` handles before any command runs."""
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="module that registers layers of your own",
    )


def add_output_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the options of a command that writes a model YAML."""
    hint = "model YAML to write" + ("" if required else "; without it, changes are only listed")
    parser.add_argument("-o", "--output", required=required, type=not_empty, metavar="FILE", help=hint)
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def check_output(output: Path, force: bool) -> None:
    """Check that a model YAML may be written."""
    if output.suffix not in {".yaml", ".yml"} or not output.name.isprintable():
        raise UserError(f"-o {str(output)!r}: expected the name of a YAML file, such as yolov8n-gam.yaml")
    check_new(output, "-o", force)


def check_new(output: Path, option: str, force: bool) -> None:
    """Check that a file may be written: a new one, unless `force`, in a folder that exists."""
    if output.is_dir() or ((output.exists() or output.is_symlink()) and not force):
        raise UserError(f"{option} {output}: it exists already; choose another name, or --force to overwrite a file")
    if output.exists():
        check_plain_file(output, f"{option} {output}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{option} {output}: there is no folder {output.parent}; create it first")
    check_writable(output.absolute().parent, option)


def option(text: str) -> tuple[str, Any]:
    """Return the name and value of a layer's option, as in a model YAML."""
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


def _number(fits: Callable[[Any], bool], expected: str, whole: bool = False) -> Callable[[str], Any]:
    """Return the type of an option that takes numbers, ints if `whole`."""

    def convert(text: str) -> Any:
        with contextlib.suppress(ValueError):
            number = int(text) if whole else float(text)
            if fits(number) and (text.isdecimal() or not whole):
                return number
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")

    return convert


positive = _number(lambda number: number > 0, "an int above 0", whole=True)
seed = _number(lambda number: number < 2**32, "an int from 0 to 2**32 - 1", whole=True)
strength = _number(lambda number: 0 <= number < math.inf, "a number of at least 0, such as 1e-4")
share = _number(lambda number: 0 < number <= 1, "a share above 0, up to 1, such as 0.1")


def _ascending(convert: Callable[[str], Any], numbers: Collection[int], expected: str) -> Callable[[str], Any]:
    """Return the type of an option that takes ascending numbers with commas between; `numbers` is how many."""

    def converted(text: str) -> tuple[Any, ...]:
        with contextlib.suppress(ValueError, argparse.ArgumentTypeError):
            found = tuple(map(convert, text.split(",")))
            if len(found) in numbers and list(found) == sorted({*found}):
                return found
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")

    return converted


area = _number(lambda number: 0 < number < 1e10, "a number above 0 and below COCO's 1e10")
detections = _number(lambda number: 0 < number < 2**31, "an int above 0", whole=True)
max_dets = _ascending(detections, {1, 3}, "three ascending ints above 0, or one for keypoints, such as 1,10,300")
area_ranges = _ascending(area, {2}, "two ascending areas in pixels², such as 256,4096")


def sizes(text: str) -> int | list[int]:
    """Return an image size, or height and width."""
    found = text.split(",")
    if len(found) > 2 or not all(part.isdecimal() and int(part) for part in found):
        expected = "an int above 0, or height,width such as 320,640"
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return [int(part) for part in found] if len(found) > 1 else int(text)


def names(text: str) -> list[str]:
    """Return names separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names separated by commas, such as person,car, found {text!r}")
    return found


def not_empty(text: str) -> str:
    """Return a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def path(text: str) -> str:
    """Return an absolute path, so that a run can be resumed from another folder."""
    return str(expanded(not_empty(text)).absolute())


def name(text: str) -> str:
    """Return the name of a folder inside another."""
    if Path(not_empty(text)).is_absolute() or {"..", "."} & set(text.split("/")) or len(text) > 200:
        raise argparse.ArgumentTypeError(f"expected a folder name of at most 200 characters, found {text!r}")
    return text


def data_sets(texts: Sequence[str]) -> list[Path]:
    """Return the absolute paths of the data sets that arguments name."""
    from yolo_attn.coco.dataset.locations import parts_of

    return [part.absolute() for text in texts for part in parts_of(text)]


def settings(args: argparse.Namespace, further: list[str]) -> dict[str, Any]:
    """Return the given options and key=value arguments as Ultralytics' settings."""
    options = (*OPTIONS, *DATA_OPTIONS)
    given: dict[str, Any] = {option: getattr(args, option, None) for option in options if option != "project"}
    given = {DATA_OPTIONS.get(option, option): value for option, value in given.items() if value is not None}
    if "data" in given:
        from yolo_attn.coco.dataset.locations import as_setting

        sets = [text for text in given["data"] if not _is_setting(text)]
        further = [*(text for text in given["data"] if _is_setting(text)), *further]
        if not sets:
            raise UserError("--data: expected a COCO-format folder or a data YAML")
        given["data"] = as_setting(data_sets(sets))
    for text in further:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"{text!r}: unknown{_meant(text, args) or '; expected an option or key=value'}")
        if key in ELSEWHERE:
            raise UserError(f"{text!r}: use {ELSEWHERE[key]} instead")
        if key in OPTION_OF:
            raise UserError(f"{text!r}: this command does not take it")
        given[key] = _value(value)
    return given


def _meant(text: str, args: argparse.Namespace) -> str:
    """What an unknown option may mean: a setting, or an option that is spelt otherwise."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    option, _, value = text.partition("=")
    name = option.lstrip("-").replace("-", "_")
    setting = name.removeprefix("no_")
    if option.startswith("--") and setting in DEFAULT_CFG_DICT and setting not in OPTION_OF:
        default = DEFAULT_CFG_DICT[setting]
        value = value or (str(setting == name) if isinstance(default, bool) else "…")
        return did_you_mean([f"{setting}={value}"])
    helps = {command: parser.format_help() for command, parser in args.parsers.items()}
    known = {name: re.findall(r"^ +(?:-\w.*?, )?(--[\w-]+)", text, re.MULTILINE) for name, text in helps.items()}
    others = [command for command, options in known.items() if option in options]
    if others:
        return f"; it is an option of {' and '.join(others)}"
    return did_you_mean(similar(option, known[args.command], most=1))


def _is_setting(text: str) -> bool:
    """Return whether a value of `--data` is a key=value and not a path."""
    return text.partition("=")[0].isidentifier() and "=" in text and not Path(text).exists()


def _value(text: str) -> Any:
    """Return a setting's value: a Python literal if it is one, else the text itself."""
    word = text.capitalize() if text.lower() in {"true", "false", "none"} else text
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return text
