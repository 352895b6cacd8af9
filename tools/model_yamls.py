"""The packaged model YAMLs, written by `python -m tools.model_yamls`: bases, with attention put in as users do.

The rows of a base are Ultralytics' data, or those of our own `resnet50.yaml` and `mobilenetv2.yaml`, in our layout.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ultralytics.nn import tasks
from ultralytics.utils.checks import check_yaml

from yolo_attn import layers
from yolo_attn.engine.cost import cost_of
from yolo_attn.files import write_text
from yolo_attn.model.insertion import SHORT, describe, put
from yolo_attn.model.names import MODEL_YAMLS, SCALED_NAME
from yolo_attn.yaml_edit.text import SECTIONS, flow

FAMILIES = {"yolov8": "YOLOv8", "yolo11": "YOLO11", "yolo26": "YOLO26"}

NECK = "on each map that feeds the head (P3, P4, P5)"

SAID = (256, 32)
"""Sizes that a header's command says, as its network is made for them."""

HEADER_LINES = 4
"""Of our own bases: title, command, figures, and an empty one."""

DATA = {"pose": "coco", "obb": "dota.yaml", "cls": "imagenet"}
"""What `--data` says in the headers of tasks that the demo set has no labels for."""

TORCHVISION = {
    "resnet18": "torchvision's ResNet-18 classifier",
    "resnet50": "torchvision's ResNet-50 classifier",
    "resnet50-cifar": "torchvision's ResNet-50 classifier for CIFAR's images",
    "mobilenetv2": "torchvision's MobileNetV2 classifier",
    "vgg19": "torchvision's VGG19 classifier",
}
"""Titles of torchvision's networks, by what their names have between `torchvision-` and `-cls`."""

NOTES = {"kpt_shape": " # of the data when it is known"}


@dataclass(frozen=True)
class Packaged:
    """A packaged model YAML with attention: the base's name, a title for its first line, and what `insert` takes."""

    base: str
    title: str
    layer: str
    place: str = "neck"
    options: Mapping[str, Any] = field(default_factory=dict)


def packaged() -> dict[str, Packaged]:
    """All packaged models with attention by their names."""
    short = {layer: next((s for s, name in SHORT.items() if name == layer), layer.lower()) for layer in layers.__all__}
    models = {}

    def neck(base: str, title: str, layer: str, where: str = NECK) -> None:
        models[f"{base}-{short[layer]}"] = Packaged(base, f"{title} with {layer} {where}", layer)

    def blocks(
        name: str, base: str, title: str, layer: str, place: str, wheres: Mapping[str, str], **options: Any
    ) -> None:
        """In every block, where the layer's authors have it; `wheres` says in words what that is."""
        where = "pre_bn" if layer == "SimAM" else "end"
        options |= {"where": where} if where != "end" else {}
        title = f"{title} with {layer} {wheres[where]}"
        models[f"{name}-{short[layer]}"] = Packaged(base, title, layer, place, options)

    for layer in layers.__all__:
        for base, family in FAMILIES.items():
            neck(base, f"{family} detector", layer)
    for layer in ("SimAM", "NAM", "GAM"):
        neck("yolov5", "YOLOv5u detector", layer)
    neck("yolov8-seg", "YOLOv8 segmentation model", "GAM")
    neck("yolov8-pose", "YOLOv8 pose model", "GAM")
    neck("yolov8-obb", "YOLOv8 model of oriented boxes", "GAM")
    neck("yolov8-cls", "YOLOv8 classifier", "GAM", "on the map that feeds the head")
    neck("rtdetr-l", "RT-DETR-L", "GAM", NECK.replace("head", "decoder"))
    title = "YOLOv8 detector with GAM on the last backbone map, before SPPF"
    models["yolov8-gam-backbone"] = Packaged("yolov8", title, "GAM", "backbone")
    for layer in ("SimAM", "NAM", "CBAM", "ECA"):
        for base, block in (("yolov8", "C2f"), ("yolo11", "C3k2")):
            wheres = {
                "end": f"in every {block}, at the end of each bottleneck's branch",
                "pre_bn": f"in every {block}, before the batch norm of each bottleneck's last 3×3 convolution",
            }
            blocks(f"{base}-{block.lower()}", base, f"{FAMILIES[base]} detector", layer, "blocks", wheres)
    wheres = {
        "end": "at the end of every residual block, before the addition",
        "pre_bn": "before the batch norm of every residual block's 3×3 convolution",
    }
    for layer in ("SimAM", "NAM", "GAM", "CBAM"):
        options = {"ratio": 16} if layer == "GAM" else {}
        blocks("resnet50", "resnet50", "ResNet-50 detector", layer, "blocks:backbone", wheres, **options)
        blocks(
            "resnet50-cls", "yolov8-cls-resnet50", "ResNet-50 classifier", layer, "blocks:backbone", wheres, **options
        )
    wheres = {
        "end": "at the end of every inverted residual block, before the addition",
        "pre_bn": "before the batch norm of every block's depthwise convolution",
    }
    for layer in ("SimAM", "NAM"):
        blocks("mobilenetv2", "mobilenetv2", "MobileNetV2 detector", layer, "blocks:backbone", wheres)
    for network, title in TORCHVISION.items():
        _of_torchvision(models, short, network, title)
    for layer in layers.__all__:
        title = f"TowerNet classifier with {layer} behind its last four max pools"
        models[f"towernet-cls-{short[layer]}"] = Packaged("towernet-cls", title, layer, "after:5,7,9,11")
    return models


def _of_torchvision(models: dict[str, Packaged], short: Mapping[str, str], network: str, title: str) -> None:
    """A network of torchvision's with each of the layers that papers put into such networks, where they put it."""
    base = f"torchvision-{network}-cls"
    for layer in (
        ("SimAM", "NAM", "CBAM")
        if "cifar" in network
        else ("SimAM", "NAM", "GAM", "SE", "CBAM", "BAM", "TripletAttention")
    ):
        options: dict[str, Any] = {"ratio": 16} if layer == "GAM" and "resnet" in network else {}
        place, where = "blocks", "at the end of every block, before the addition"
        if network == "vgg19":
            place, where = "after:0,1,2,3,4", "behind every stage"
        if layer == "BAM":
            place, where = "after:0,1,2,3" if network == "vgg19" else "after:0,1,2", "between the stages"
        elif layer == "SimAM" and place == "blocks":
            options, where = {"where": "pre_bn"}, "before the batch norm of every block's last 3×3 convolution"
        models[f"{base}-{short[layer]}"] = Packaged(base, f"{title} with {layer} {where}", layer, place, options)


def render(name: str, figures: str) -> str:
    """The text of one of `packaged()`, with figures as the header's third line."""
    data = next((f" --data path/to/{data}" for task, data in DATA.items() if f"-{task}-" in name), "")
    size = f" --imgsz {_size(name)}" if _size(name) in SAID else ""
    train = f"python scripts/train_det.py --cfg {at_n(name)}.yaml{data}{size}"
    return f"# {packaged()[name].title}.\n# {train}\n{figures}\n\n{attended_text(name)}"


def attended_text(name: str) -> str:
    """The same without its header."""
    model = packaged()[name]
    text = base_text(model.base, bool(SCALED_NAME.match(at_n(name))))
    return put(text, name, model.layer, model.place, model.options, "n")[0].text


def base_text(name: str, scaled: bool) -> str:
    """A base in our layout, without a header; not `scaled` where the name has no place for a letter."""
    ours = MODEL_YAMLS / f"{name}.yaml"
    if ours.is_file():
        return "".join(ours.read_text(encoding="utf-8").splitlines(keepends=True)[HEADER_LINES:])
    content = yaml.safe_load(Path(check_yaml(f"{name}.yaml")).read_text(encoding="utf-8"))
    lines, index = [], 0
    for key, value in content.items():
        if key in SECTIONS:
            lines += ["", f"{key}: # from, repeats, layer, arguments"]
            for row in value:
                arguments = [None if argument == "None" else argument for argument in row[3]]
                lines.append(f"  - {flow([*row[:3], arguments])} # {index}")
                index += 1
        elif key != "scales":
            lines.append(flow({key: value})[1:-1] + NOTES.get(key, ""))
        elif scaled:
            lines.append("scales: # depth, width, max_channels")
            lines += [f"  {scale}: [{depth:.2f}, {width:.2f}, {most}]" for scale, (depth, width, most) in value.items()]
    return "\n".join(lines) + "\n"


def at_n(name: str) -> str:
    """A name at scale n, where it has a place for a letter."""
    return re.sub(r"^(yolov?\d+)", r"\1n", name)


def figures(name: str) -> str:
    """The header's line of parameters and GFLOPs, beside the base's."""
    base = at_n(packaged()[name].base)
    scale = "n " if at_n(name) != name else ""
    counted = count(describe(attended_text(name), name, scale.strip()), _size(name))
    return f"# {scale}at {_size(name)} px: {counted}; plain {base}: {_base_count(base, _size(name))}."


def count(described: dict[str, Any], size: int) -> str:
    """Parameters and GFLOPs of a model for one picture of `size` pixels, in words."""
    parameters, gflops = cost_of(described, size)
    return f"{parameters:,} parameters, {gflops:.3f} GFLOPs"


@functools.cache
def _base_count(base: str, size: int) -> str:
    return count(tasks.yaml_model_load(f"{base}.yaml"), size)


def _size(name: str) -> int:
    known = {"towernet": 256, "cifar": 32, "-cls": 224}
    return next((size for part, size in known.items() if part in name), 640)


def main() -> None:
    """Write them all."""
    for name in packaged():
        write_text(MODEL_YAMLS / f"{name}.yaml", render(name, figures(name)))
        print(f"{name}.yaml")


if __name__ == "__main__":
    main()
