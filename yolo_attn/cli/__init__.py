"""The command line: `yolo-attn train`, `yolo-attn val`, and the scripts of the same content."""

import os
import sys
from collections.abc import Sequence

from yolo_attn import __version__
from yolo_attn.cli import train, val
from yolo_attn.cli.arguments import Parser
from yolo_attn.errors import UserError

COMMANDS = (train, val)
"""Modules of one command each: `add(commands)` describes it, and its parser's `run(args, further)` runs it."""


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


def _parser() -> Parser:
    parser = Parser(prog="yolo-attn", description="Attention layers in Ultralytics YOLO.")
    parser.add_argument("--version", action="version", version=f"yolo-attn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
