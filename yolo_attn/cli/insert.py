"""`yolo-attn insert`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from yolo_attn.cli.arguments import add_import_option, add_output_options, check_output, not_empty, option
from yolo_attn.errors import UserError
from yolo_attn.yaml_edit import PLACES

EXAMPLE = """
  yolo-attn insert yolov8n.yaml --layer GAM --at neck -o yolov8n-gam.yaml
  yolo-attn insert my.yaml --layer SimAM --at blocks --option where=pre_bn -o my-simam.yaml"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    width = max(map(len, PLACES)) + 2
    places = "\n".join(f"  {place:<{width}}{rule}" for place, rule in PLACES.items())
    parser = commands.add_parser(
        "insert",
        help="insert attention into a model YAML; row numbers are updated",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"places:\n{places}\n\nexamples:{EXAMPLE}",
    )
    parser.add_argument("file", type=not_empty, help="model YAML: a file, or a name such as yolov8n.yaml")
    parser.add_argument(
        "--layer",
        required=True,
        type=not_empty,
        action="append",
        help="GAM, NAM, SimAM, ...; yolo-attn layers lists all",
    )
    parser.add_argument("--at", required=True, action="append", metavar="PLACE", help="where to insert it; see below")
    parser.add_argument(
        "--option",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the layer, such as ratio=8, or where=pre_bn for blocks; may be repeated",
    )
    add_output_options(parser)
    add_import_option(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Write the edited YAML."""
    layer, place = _once("--layer", args.layer), _once("--at", args.at)
    options = {name: _once(f"--option {name}", [v for key, v in args.option if key == name]) for name, _ in args.option}
    output = Path(args.output)
    check_output(output, args.force)
    from yolo_attn.files import write_text
    from yolo_attn.model.insertion import insert
    from yolo_attn.model.names import check_scale, read_model
    from yolo_attn.yaml_edit import numbered, with_header

    text, scale = read_model(args.file, output)
    edited = insert(text, Path(args.file).name, layer, place, options, scale)
    check_scale(output, text, scale)
    layer = edited.record.layer
    given = [word for name, value in args.option for word in ("--option", f"{name}={value}")]
    imports = [word for module in args.modules for word in ("--import", module)]
    made_by = shlex.join([Path(args.file).name, "--layer", layer, "--at", place, *given, *imports])
    train = shlex.join(["yolo-attn", "train", "--cfg", output.name, "--data", "path/to/data", *imports])
    write_text(output, with_header(edited, made_by, train))
    where = "inside" if edited.record.inside else "as"
    print(f"{args.output}: {layer} {where} {numbered(edited.record.rows)}")


def _once(name: str, given: list[Any]) -> Any:
    """Return the one value of an option; raise a UserError if there are several."""
    if len(given) > 1:
        raise UserError(f"{name}: given more than once, {', '.join(map(str, given))}")
    return given[0]
