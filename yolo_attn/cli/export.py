"""`yolo-attn export`."""

import argparse
from typing import Any

from yolo_attn.cli.arguments import (
    add_model_options,
    add_reader_options,
    not_empty,
    path,
    positive,
    reader_options,
    settings,
    sizes,
)


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("export", help="export a checkpoint and verify the file")
    parser.add_argument("--weights", required=True, type=not_empty, help="checkpoint to export, .pt or .safetensors")
    parser.add_argument("--format", required=True, help="onnx, torchscript, openvino, safetensors, engine, ...")
    parser.add_argument("--dynamic", action="store_true", help="allow any batch and image size")
    parser.add_argument("--half", action="store_true", help="half precision")
    parser.add_argument("--int8", action="store_true", help="int8, calibrated on images of --data; onnx, openvino, ...")
    parser.add_argument(
        "--data",
        nargs="+",
        type=not_empty,
        help="COCO-format folder or data YAML to calibrate --int8 on; default: the checkpoint's training data",
    )
    parser.add_argument("--split", choices=["train", "val", "test"], help="its split to calibrate on; default: val")
    parser.add_argument("--output", type=path, help="file or folder to write; default: beside the checkpoint")
    parser.add_argument("--imgsz", type=sizes, help="image size, pixels, or height,width; default: the checkpoint's")
    parser.add_argument("--batch", type=positive, help="images in a batch; default: 1")
    parser.add_argument("--device", help="0, cpu; default: cpu")
    add_reader_options(parser)
    add_model_options(parser, "opset=17 nms=False")


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Export."""
    from yolo_attn.engine.export.exporter import export

    switches = {name: True for name in ("dynamic", "half", "int8") if getattr(args, name)}
    with reader_options(args):
        export(args.weights, args.format, {**settings(args, further), **switches}, args.output, args.trust)
