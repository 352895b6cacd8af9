"""`yolo-attn migrate`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_import_option, add_output_options, check_output, not_empty


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "migrate",
        help="translate a model YAML that was written for another port of the layers",
        description="Lists each row that it changes, such as names like GAM_Attention and channels given by hand.",
    )
    parser.add_argument("file", type=not_empty, help="model YAML")
    add_output_options(parser, required=False)
    add_import_option(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """List the changes, and write the result if an output is given."""
    output = Path(args.output) if args.output else None
    if output:
        check_output(output, args.force)
    from yolo_attn.files import write_text
    from yolo_attn.model.insertion import migrate
    from yolo_attn.model.names import check_scale, read_model

    text, scale = read_model(args.file, output)
    translated, lines = migrate(text, Path(args.file).name, scale)
    if output:
        check_scale(output, translated, scale)
        write_text(output, translated)
    print(*lines, sep="\n")
