"""How fast the layers are: each form of them, whole models, exported models.

    python benchmarks/layers.py --out measured
    python benchmarks/layers.py --sections layers --rounds 15
    python benchmarks/layers.py --show measured/performance.json
    python benchmarks/layers.py --smoke

layers    SimAM, NAM and GAM as papers and blogs write them, and ours: the formula, the fast form, fused, compiled
models    pictures a second of a training step and of fused inference of YOLOv8, plain and with each attention
exports   time of a picture in onnxruntime and OpenVINO, and nodes of the ONNX file, likewise

What is compared is timed in turn, in every round, and ratios are those of a round: median and quartiles. On a CUDA
device times are the device's, by replays of graphs; without one, a CPU's on one thread. The CUDA half is untried.

A form that fails or computes something else is skipped and listed, the others are measured, and the exit code is 1.

--out gets performance.json, which has a case's rows as soon as it is measured, performance.md and performance.png.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(YOLO_OFFLINE="1", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")

import torch
from machine import machine
from speed import exports, layers, models, report
from speed.timing import steady

from yolo_attn.errors import one_line
from yolo_attn.files import write_text

SECTIONS = {"layers": layers.measure, "models": models.measure, "exports": exports.measure}
PACKAGES = ("torch", "ultralytics", "onnx", "onnxruntime", "openvino", "triton")


def measured(args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The rows of the sections, those of a case together, until the time is up."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    end = time.monotonic() + 60 * args.minutes
    for section in args.sections:
        try:
            for rows in SECTIONS[section](device, args.smoke, args.rounds):
                yield rows
                if time.monotonic() > end:
                    print(f"{args.minutes:g} minutes are over: the rest is skipped", flush=True)
                    return
        except Exception as error:  # a section may fail before its first case
            yield [{"section": section, "failure": one_line(error)}]


def line(row: dict[str, Any]) -> str:
    """A row in a line."""
    names = (str(row[key]) for key in ("section", "layer", "way", "form", "layout", "dtype", "shape") if key in row)
    return f"{' '.join(names)}: {row['failure'] if 'failure' in row else format(row['ratio'][0], '.2f')}"


def written(content: dict[str, Any]) -> str:
    """A report as JSON, with a line for each row."""
    head = json.dumps({key: value for key, value in content.items() if key != "rows"}, indent=1)
    rows = ",\n  ".join(map(json.dumps, content["rows"]))
    return f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'


def show(content: dict[str, Any], folder: Path) -> None:
    """Write tables and plot of a report into a folder, and print the tables."""
    text = report.tables(content["rows"])
    print(text)
    write_text(folder / "performance.md", text + "\n")
    versions = ", ".join(f"{name} {content['versions'][name]}" for name in ("torch", "ultralytics"))
    if any(row["section"] == "layers" for row in content["rows"]):
        title = f"{content['device']}, {versions}, {content['date'][:10]}"
        report.plot(content["rows"], title, folder / "performance.png")


def main() -> None:
    """Read the arguments, measure and write, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("measured"), help="folder; default: measured")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all")
    parser.add_argument("--rounds", type=int, default=21, help="fewer of GAM and of whole models; default: 21")
    minutes = 8 if torch.cuda.is_available() else math.inf
    parser.add_argument("--minutes", type=float, default=minutes, help="after which it ends; default: 8 on CUDA")
    parser.add_argument("--smoke", action="store_true", help="a few tiny cases, to see that everything runs")
    parser.add_argument("--show", type=Path, help="JSON of an earlier run: its tables and plot, into its folder")
    args = parser.parse_args()
    if args.smoke:
        args.rounds = 2
    if args.show:
        show(json.loads(args.show.read_text()), args.show.parent)
        return
    steady()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"
    settings = {"device": device, "tf32": torch.backends.cudnn.allow_tf32, "rounds": args.rounds}
    content = {**machine(PACKAGES), **settings, "failures": [], "rows": []}
    for rows in measured(args):
        print(*map(line, rows), sep="\n", flush=True)
        for row in rows:
            content["failures" if "failure" in row else "rows"].append(row)
        write_text(args.out / "performance.json", written(content))
    show(content, args.out)
    sys.exit(bool(content["failures"]))


if __name__ == "__main__":
    main()
