"""`yolo-attn show`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_model_options, check_new, not_empty, path, positive
from yolo_attn.errors import UserError


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "show",
        help="list a model's rows: shapes, strides, cost, and who reads whom",
        description="Lists each row of a model with what it makes and costs, and the rows that read it.",
    )
    parser.add_argument("model", type=not_empty, help="model YAML, a name such as yolov8n-gam.yaml, or a checkpoint")
    parser.add_argument("--imgsz", type=positive, help="image size, pixels; default: the checkpoint's, or 640")
    parser.add_argument("--against", type=not_empty, metavar="BASE", help="list only what differs from this model")
    parser.add_argument("--svg", type=path, metavar="FILE", help="draw the graph too; needs yolo_attn[graph]")
    parser.add_argument("--mermaid", type=path, metavar="FILE", help="write the graph as text for Mermaid, too")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    add_model_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Print the table, and write the drawings."""
    from yolo_attn.files import write_bytes
    from yolo_attn.show import differences, mermaid, shown, svg, table

    drawn = {"--svg": args.svg, "--mermaid": args.mermaid}
    if args.svg and args.svg == args.mermaid:
        raise UserError(f"--svg {args.svg}: --mermaid names the same file")
    for option, file in drawn.items():
        if file:
            check_new(Path(file), option, args.force)
    model, *base = shown([args.model, *([args.against] if args.against else [])], args.imgsz, args.trust)
    graphs = [(args.svg, svg), (args.mermaid, mermaid)]
    made = [(Path(file), draw(model)) for file, draw in graphs if file]
    print(*(differences(model, base[0]) if base else table(model)), sep="\n")
    for file, content in made:
        write_bytes(file, content)
        print(f"graph: {file}")
