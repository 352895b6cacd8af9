"""The command line `yolo-attn`: one file a command, and `main`, which also takes Ultralytics' grammar.

What commands share is in arguments.py; streams.py and installation.py handle broken output and broken packages.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from yolo_attn import __version__
from yolo_attn.cli import (
    check_data,
    compare,
    doctor,
    export,
    insert,
    layers,
    maps,
    migrate,
    remove,
    show,
    split,
    train,
    val,
)
from yolo_attn.cli.arguments import Parser, add_import_option
from yolo_attn.cli.forward import forward
from yolo_attn.cli.installation import described, while_importing
from yolo_attn.cli.streams import missing_output, standard_streams
from yolo_attn.errors import Terminated, UserError
from yolo_attn.files import os_error_line
from yolo_attn.kernels.switch import kernels_mode

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": train,
    "val": val,
    "check-data": check_data,
    "split": split,
    "attention-maps": maps,
    "export": export,
    "compare": compare,
    "insert": insert,
    "remove": remove,
    "migrate": migrate,
    "show": show,
    "layers": layers,
    "doctor": doctor,
}
"""Each command's module: `add(commands)` adds its parser; `run(args, further)` runs it and may return an exit code."""

IN_BOTH_GRAMMARS = {"train", "val", "export"}

DESCRIPTION = "Attention layers (SimAM, NAM, GAM, CBAM, ...) in Ultralytics YOLO, trained and validated on COCO JSON."

EXAMPLES = """
start here:
  yolo-attn train --cfg yolov8n-gam.yaml                        train on a small demo set, drawn on first use
  yolo-attn train --cfg yolov8n-gam.yaml --data path/to/coco    train on your own COCO-format folder
  yolo-attn check-data path/to/coco --pictures suspects         draw what would be skipped or clipped
  yolo-attn val --weights runs/detect/train/weights/best.pt     report COCO's numbers of a checkpoint
  yolo-attn attention-maps --weights best.pt --source images    draw what its attention does
  yolo-attn export --weights best.pt --format onnx              write an ONNX file and check it against the model
  yolo-attn insert yolov8n.yaml --layer GAM --at neck -o yolov8n-gam.yaml
  yolo-attn show yolov8n-gam.yaml --against yolov8n.yaml        list rows, shapes and cost, or what differs
  yolo-attn compare --base yolov8n.yaml --layers SimAM,NAM,GAM --data path/to/coco    report whether it helped

everything that yolo takes, in its grammar, with attention layers and COCO-format data:
  yolo-attn train model=yolov8n-gam.yaml data=path/to/coco epochs=3
  yolo-attn predict model=best.pt source=images
  and val, export, track, benchmark, settings, cfg, checks, version, help

Arguments are read in yolo's grammar unless an --option follows the command. Both take --import MODULE, which
registers layers of your own. Nothing is downloaded unless YOLO_OFFLINE=0 is set.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    It is 2 after a user's mistake, 1 after a failure such as a full disk, a failed export or output that could not be
    written, 130 after Ctrl-C and 143 after SIGTERM; each is reported in one line.
    """
    with standard_streams():
        ended = None
        try:
            with _terminable():
                code: Any = _main(arguments)
        except SystemExit as end:  # of --help and --version
            ended, code = end, end.code
        error = missing_output()
        if error and not code:
            _tell(f"yolo-attn: error: output is missing: {os_error_line(error)}")
            return 1
        if ended:
            raise ended
        return code


def _main(arguments: Sequence[str] | None) -> int:
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            kernels_mode()
        except ValueError as error:
            raise UserError(str(error)) from error
        imports_parser = Parser(prog="yolo-attn", add_help=False, allow_abbrev=False)
        add_import_option(imports_parser)
        imports, others = imports_parser.parse_known_args(arguments)
        if imports.modules:
            from yolo_attn.model.registry import import_modules

            import_modules(imports.modules)
        if _is_ultralytics_grammar(others):
            _forward(others)
            return 0
        args, further = _parser().parse_known_args(others)
        args.modules, args.typed = imports.modules, arguments
        if further and not hasattr(args, "takes_settings"):
            raise UserError(f"{further[0]!r}: unknown to {args.command}; see yolo-attn {args.command} --help")
        return COMMANDS[args.command].run(args, further) or 0
    except UserError as error:
        _tell(f"yolo-attn: error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        _tell(f"yolo-attn: stopped; {str(stop) or 'train --resume continues a training that has a last.pt'}")
        return 143 if isinstance(stop, Terminated) else 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            line = os_error_line(error)
        elif while_importing(error):
            line = described(error)
        else:
            raise
        _tell(f"yolo-attn: error: {line}")
        return 1


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does; processes of a launcher keep ending at once."""
    if threading.current_thread() is not threading.main_thread() or "RANK" in os.environ:
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forward(arguments: list[str]) -> None:
    """Run what `yolo` would run; suggest a command of ours for a similar word."""
    try:
        forward(arguments)
    except UserError as error:
        near = get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.75)
        if not near or near[0] == arguments[0]:
            raise
        raise UserError(f"{arguments[0]!r}: no such command; did you mean yolo-attn {near[0]}?") from error


def _tell(text: str) -> None:
    """Print a last line, once for all processes of a training."""
    if "RANK" in os.environ:
        from yolo_attn.engine.training.distributed import first_to_report

        if not first_to_report():
            return
    print(text, file=sys.stderr, flush=True)


def _is_ultralytics_grammar(arguments: list[str]) -> bool:
    """Return whether arguments, without any --import, are in `yolo`'s grammar."""
    if not arguments or arguments[0].startswith("-"):
        return False
    command, *others = arguments
    if command in IN_BOTH_GRAMMARS:
        return bool(others) and not any(other == "-h" or other.startswith("--") for other in others)
    return command not in COMMANDS


def _parser() -> Parser:
    parser = Parser(
        prog="yolo-attn",
        usage="yolo-attn COMMAND [--options]  or  yolo-attn [TASK] MODE [key=value ...]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"yolo-attn {__version__}")
    commands = parser.add_subparsers(
        required=True, dest="command", metavar="COMMAND", title="commands; COMMAND --help says more", prog="yolo-attn"
    )
    for command in COMMANDS.values():
        command.add(commands)
    parser.set_defaults(parsers=commands.choices)
    return parser
