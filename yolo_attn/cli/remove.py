"""`yolo-attn remove`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_import_option, add_output_options, check_output, not_empty


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "remove",
        help="remove attention from a model YAML",
        description="Removes what the last insert added, byte for byte, by the header that it wrote; without such a "
        "header, every attention layer.",
    )
    parser.add_argument("file", type=not_empty, help="model YAML: a file, or a name such as yolov8n-gam.yaml")
    add_output_options(parser)
    add_import_option(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Write the YAML without the attention."""
    output = Path(args.output)
    check_output(output, args.force)
    from yolo_attn.files import write_text
    from yolo_attn.model.insertion import remove
    from yolo_attn.model.names import check_scale, read_model
    from yolo_attn.yaml_edit import numbered

    text, scale = read_model(args.file, output)
    edited = remove(text, Path(args.file).name, scale)
    check_scale(output, edited.text, scale)
    write_text(output, edited.text)
    print(f"{args.output}: {edited.record.layer} removed from {numbered(edited.record.rows)}")
