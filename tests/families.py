"""Every model YAML of Ultralytics, and attention put into it: what the test matrix and docs/families.md share."""

import functools
import os
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path

import torch
import ultralytics
import yaml
from support import OLDEST, with_rows
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG

from yolo_attn.model.blocks import UNITS

FOLDER_VARIABLE = "YOLO_ATTN_TEST_YAMLS"
"""Names another folder of model YAMLs: the oldest Ultralytics gets the newest one's."""

FOLDER = Path(os.environ.get(FOLDER_VARIABLE, Path(ultralytics.__file__).parent / "cfg/models"))
YAMLS = {file.stem: file for file in sorted(FOLDER.rglob("*.yaml"))}

SINCE = {
    "yolo11-cls-resnet18": "8.3.59",
    "yolo12*": "8.3.78",
    "yoloe-26*": "8.4.0",
    "yoloe*": "8.3.99",
    "yolo26-cls": OLDEST,
    "yolo26-sem": "8.4.52",
    "yolo26-depth": "8.4.104",
    "yolo26*": "8.4.0",
    "*": OLDEST,
}
"""The first Ultralytics that builds a YAML; the first pattern that fits counts."""

HEADS = {
    "Classify": ("classify", "ClassificationModel"),
    "Depth": ("depth", "DepthModel"),
    "Detect": ("detect", "DetectionModel"),
    "OBB": ("obb", "OBBModel"),
    "Pose": ("pose", "PoseModel"),
    "RTDETRDecoder": ("detect", "RTDETRDetectionModel"),
    "Segment": ("segment", "SegmentationModel"),
    "SemanticSegment": ("semantic", "SemanticSegmentationModel"),
    "WorldDetect": ("detect", "WorldModel"),
    "YOLOEDetect": ("detect", "YOLOEModel"),
    "YOLOESegment": ("segment", "YOLOESegModel"),
    "v10Detect": ("detect", "DetectionModel"),
}
"""Task and Ultralytics' model class of each head; those of yolo26 bear the same names with 26 behind."""

OPTIONS = {("yolov9m", "GAM"): {"ratio": 2}}
"""Options that a layer needs in a YAML's blocks: GAM's ratio must divide their 32, 60, 90 and 120 channels."""


def since(name):
    return next(version for pattern, version in SINCE.items() if fnmatch(name, pattern))


def builds(name):
    """Whether the table says that the Ultralytics at hand builds a YAML."""
    return _numbers(since(name)) <= _numbers(ultralytics.__version__)


def _numbers(version):
    return [int(part) for part in version.split(".")[:3]]


@functools.cache
def _content(name):
    return yaml.safe_load(YAMLS[name].read_text())


def scales(name):
    """Scale letters, smallest first, or one empty one where a YAML has none."""
    return list(_content(name).get("scales", [""]))


def load(name, scale):
    """The model dictionary; torchvision's pretrained weights, which would be downloaded, are skipped."""
    model = {**deepcopy(_content(name)), "scale": scale, "yaml_file": f"{name}.yaml"}
    for row in rows(model):
        row[3] = [None if argument == "DEFAULT" else argument for argument in row[3]]
    return model


def rows(model):
    return [*model["backbone"], *model["head"]]


def head(name):
    return rows(_content(name))[-1][2].removesuffix("26")


def task(name):
    return HEADS[head(name)][0]


def blocks(name):
    """Names of the blocks in a YAML that have attention variants."""
    return sorted({row[2] for row in rows(_content(name)) if _has_variant(row)})


def _has_variant(row):
    stem = row[2] == "ResNetLayer" and row[3][3]  # has no residual unit
    return row[2] in UNITS and not stem


def inserted(model, backbone, neck):
    """The model with rows of attention in the middle of the backbone and of the neck.

    They stand before a row that takes the row before it, hence one map. A classifier has no neck; theirs stand before
    the head.
    """
    border = len(model["backbone"])
    follows = [i for i, row in enumerate(rows(model)) if i > 0 and row[0] == -1]
    early, late = [i for i in follows if i <= border], [i for i in follows if i >= border]
    model = with_rows(model, late[len(late) // 2], *([-1, 1, layer, []] for layer in neck))
    return with_rows(model, early[len(early) // 2], *([-1, 1, layer, []] for layer in backbone))


def swapped(model, layer, **options):
    """The model with attention in every block that can have it."""

    def swap(row):
        # of torchvision's models, only mobilenet_v2 is known inside
        mapping = {**options, **({"where": "out"} if row[2] == "TorchVision" else {})}
        return [*row[:2], f"{row[2]}_{layer}", [*row[3], *([mapping] if mapping else [])]] if _has_variant(row) else row

    return {**model, **{part: [swap(row) for row in model[part]] for part in ("backbone", "head")}}


def parse(model):
    """The layers on the meta device: channels, shapes and counts, and no memory."""
    with torch.device("meta"):
        return tasks.parse_model(deepcopy(model), 3, verbose=False)[0]


def build(name, model):
    """The whole model of its task, as training has it."""
    built = getattr(tasks, HEADS[head(name)][1])(model, verbose=False)
    built.args, built.nc = get_cfg(DEFAULT_CFG), model["nc"]
    return built.train()


def batch(name, model):
    """Two pictures with three objects, labelled for the task."""
    kind, classes = task(name), model["nc"]
    size = 128 if head(name) == "RTDETRDecoder" else 64  # its 300 queries want 300 pixels of P3 to P5
    pictures = {"img": torch.rand(2, 3, size, size)}
    if kind == "classify":
        return {**pictures, "cls": torch.tensor([0, classes - 1])}
    if kind == "semantic":
        return {**pictures, "semantic_mask": torch.randint(0, classes, (2, size, size))}
    if kind == "depth":
        return {**pictures, "depth": 1 + torch.rand(2, 1, size, size)}
    boxes = torch.tensor([[0.4, 0.4, 0.5, 0.5], [0.6, 0.5, 0.3, 0.6], [0.5, 0.5, 0.7, 0.4]])
    labels = {"batch_idx": torch.tensor([0.0, 0, 1]), "cls": torch.tensor([[0.0], [classes - 1], [0]]), "bboxes": boxes}
    if kind == "obb":
        labels["bboxes"] = torch.cat((boxes, torch.tensor([[0.3], [0.0], [-0.4]])), 1)
    if kind == "pose":
        labels["keypoints"] = torch.rand(3, 17, 3)
    if kind == "segment":
        labels["masks"] = torch.zeros(2, size // 4, size // 4)
        labels["masks"][0, 2:8, 2:8], labels["masks"][0, 8:12, 4:12], labels["masks"][1, 3:12, 3:14] = 1, 2, 1
        labels["sem_masks"] = torch.zeros(2, size // 4, size // 4)
    if head(name) in ("WorldDetect", "YOLOEDetect", "YOLOESegment"):
        labels["txt_feats"] = torch.randn(2, classes, 512)
    return {**pictures, **labels}
