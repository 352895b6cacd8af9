"""A model built anew from a file's model YAML, with the file's tensors in it.

The YAML is built on the meta device first, within limits, where nothing takes memory: what has other tensors than the
file is never built, so a file cannot ask for more memory than it has bytes.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import Size, Tensor, nn
from torch.overrides import TorchFunctionMode
from ultralytics.cfg import TASK2DATA
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, Detect, WorldDetect, v10Detect
from ultralytics.utils.torch_utils import initialize_weights

from yolo_attn.errors import UserError, one_line
from yolo_attn.model.graph import not_refused
from yolo_attn.model.registry import is_attention
from yolo_attn.model.run_rows import each_row
from yolo_attn.model.untrusted import check_foreign_yaml, plain_settings, without_downloads

KINDS = (
    *("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel", "ClassificationModel"),
    *("RTDETRDetectionModel", "SemanticSegmentationModel", "DepthModel"),
)
"""Model classes of Ultralytics' whose YAML and tensors are all that there is to them."""

NOT_RUN = ("ClassificationModel", "RTDETRDetectionModel")
"""Those that Ultralytics does not run while it builds them."""

SIZE = 256
"""Image size, pixels, at which Ultralytics runs a model once while it builds it."""

MOST_ELEMENTS = 2**27
"""Of a map at this size, or of a parameter; YOLOv8x has 4 million."""

MOST_BUILT = 2**31
"""Elements of all that PyTorch returns while layers are built, each parameter some three times; ResNet-50 with GAM in
every block has 0.6 billion."""

MOST_MAPS = 2**29
"""The same, while they are run at this size; YOLOv9e has 0.13 billion."""

MOST_WORK = 10**11
"""Multiplications, or comparisons of a pooling, of all maps at this size; YOLOv8x with GAM in its blocks has 4·10¹⁰."""

MOST_REAL = 2**20
"""The same, of what is not on the meta device and so takes memory."""

MOST_OPERATIONS = 100
"""Of PyTorch for each tensor of a file, while its model is built on the meta device."""

PRODUCTS = {"linear", "matmul", "__matmul__", "bmm", "scaled_dot_product_attention"}
"""Operations of PyTorch that multiply matrices."""

_lock = threading.Lock()
"""Ultralytics' parser keeps the activation and the form of heads in its classes while it builds."""


class MismatchError(ValueError):
    """A file's model is not what its model YAML builds, or takes more than any model needs."""


@dataclass(frozen=True)
class Described:
    """What a file says of its model, none of it checked.

    `kind` is the name of Ultralytics' model class; names of None are numbers, a task of None is asked of the head;
    `source` says in messages what wrote it.
    """

    kind: str
    yaml: Any
    names: Any = None
    task: Any = None
    settings: Any = None
    source: str = ""


def build(
    file: Path,
    described: Described,
    shapes: Mapping[str, Size],
    tensors: Iterable[tuple[str, Tensor]],
    complete: Callable[[Any], None] = lambda model: None,
) -> Any:
    """Build the model that a file describes, and fill in its tensors, read one after the other once it is there.

    `complete` is called with the model before it is filled; what it raises is a refusal.

    Returns:
        The model, float32, in eval mode, with `names`, `stride`, `yaml`, `task`, `args` and `pt_path`.

    Raises:
        UserError: In one line, if the YAML names what is no layer or asks for more than a model needs, or if it makes
            no model with just these tensors under this Ultralytics.
    """
    if described.kind not in KINDS or not hasattr(tasks, described.kind):
        raise UserError(f"{file}: its model is a {described.kind[:50]!r}, which is not built from its YAML alone")
    check_foreign_yaml(file, described.yaml)
    description = without_downloads(described.yaml)
    channels = description.get("channels") or description.get("ch") or 3
    try:
        with _lock, _activation_kept(), not_refused(trained=True):
            _check_on_meta(description, channels, shapes, described.kind)
            model: Any = getattr(tasks, described.kind)(description, ch=channels, verbose=False)
            _fit_head(model.model, shapes)
        _finish(model, described, file)
        complete(model)
    except Exception as error:  # a wicked YAML may make the parser raise anything
        raise UserError(
            f"{file}: its YAML and its tensors make no model under Ultralytics {ultralytics.__version__}"
            f"{described.source}: {str(error) if isinstance(error, MismatchError | UserError) else one_line(error)}"
        ) from error
    _fill(file, model, tensors)
    return model.float().eval()


def _check_on_meta(d: dict[str, Any], channels: int, shapes: Mapping[str, Size], kind: str) -> None:
    """Build a model's layers on the meta device, and run them as Ultralytics does while it builds a model.

    Raises:
        MismatchError: If their tensors are not those of the file, or they are more or larger than any model needs.
    """
    operations = 10_000 + MOST_OPERATIONS * len(shapes)
    with _Limited(operations, MOST_BUILT), torch.device("meta"), torch.no_grad():
        layers, _ = tasks.parse_model(deepcopy(d), ch=channels, verbose=False)
        _fit_head(layers, shapes)
        _check_shapes({f"model.{key}": value.shape for key, value in layers.state_dict().items()}, shapes)
    if kind not in NOT_RUN:
        with _Limited(operations, MOST_MAPS), torch.device("meta"), torch.no_grad():
            _run(layers, channels)


def _check_shapes(built: Mapping[str, Size], given: Mapping[str, Size]) -> None:
    missing, further = sorted(built.keys() - given.keys()), sorted(given.keys() - built.keys())
    if missing and all(".bn." in key for key in missing):
        raise MismatchError(f"it is fused, {missing[0]} is folded into its convolution")
    if missing or further:
        where, key = ("in the file", missing[0]) if missing else ("in its YAML", further[0])
        raise MismatchError(f"{len(missing) + len(further)} tensors have no counterpart, {key[:100]} has none {where}")
    for key, shape in built.items():
        if tuple(shape) != tuple(given[key]):
            raise MismatchError(f"{key} is {tuple(given[key])}, and {tuple(shape)} by its YAML")


def _run(layers: Any, channels: int) -> None:
    """Run all rows on a map of `SIZE` pixels, the head as in training, where it decodes nothing."""
    head = layers.eval()[-1].train()

    def made(layer: Any, x: Any) -> Any:
        try:
            return layer(x)
        except MismatchError:
            raise
        except Exception:  # what a layer of the user's own needs a real map for; its output has its input's shape
            if not is_attention(layer) and layer is not head:
                raise
            return x

    for _ in each_row(layers, torch.zeros(1, channels, SIZE, SIZE), made):
        pass


@contextlib.contextmanager
def _activation_kept() -> Iterator[None]:
    """Old versions would build later models with the activation of this one."""
    activation = Conv.default_act
    try:
        yield
    finally:
        Conv.default_act = activation


def _fit_head(layers: Any, shapes: Mapping[str, Size]) -> None:
    """Give a detection head the branches for class scores that the file has, where they are of another form or width.

    Releases differ in the form, and the width stays that of the checkpoint that a training began with.
    """
    head: Any = layers[-1]
    if not isinstance(head, Detect) or isinstance(head, WorldDetect):
        return
    inputs = [branch[0].conv.in_channels for branch in head.cv2]
    for name in ("cv3", "one2one_cv3"):
        branches: Any = getattr(head, name, None)
        first = f"model.{len(layers) - 1}.{name}.0.0."
        plain, deep = (shapes.get(f"{first}{conv}.weight", [0])[0] for conv in ("conv", "1.conv"))
        if branches is None or (plain or deep, bool(plain)) in {(0, False), _form(branches)}:
            continue
        kind: Any = v10Detect if isinstance(head, v10Detect) else type("Detect", (Detect,), {"legacy": False})
        with _activation_kept():
            Conv.default_act = head.cv2[0][0].act
            made: Any = WorldDetect(plain, ch=inputs) if plain else kind(deep, ch=inputs)
        branches = made.cv3
        for branch in branches:
            branch[-1] = nn.Conv2d(branch[-1].in_channels, head.nc, 1)
        initialize_weights(branches)
        setattr(head, name, branches)


def _form(branches: Any) -> tuple[int, bool]:
    """The width of branches for class scores, and whether their convolutions are plain, not depthwise ones."""
    return branches[0][-1].in_channels, hasattr(branches[0][0], "conv")


def _finish(model: Any, described: Described, file: Path) -> None:
    if described.names is not None:
        model.names = {int(index): str(name) for index, name in described.names.items()}
        number, classes = len(model.names), getattr(model.model[-1], "nc", 0)
        if set(model.names) != set(range(number)) or number < classes:
            raise MismatchError(
                f"its {number:,} class names are not one for each of the classes 0, 1, 2, … of its head"
            )
    model.task = described.task if described.task in TASK2DATA else tasks.guess_model_task(model)
    model.args = plain_settings(described.settings)
    model.pt_path = str(file)
    if isinstance(model, tasks.ClassificationModel):
        from ultralytics.data.augment import classify_transforms  # importing it imports the parser

        size = model.args["imgsz"]
        model.transforms = classify_transforms(size if isinstance(size, int) else max(size))


@torch.no_grad()
def _fill(file: Path, model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
    state = model.state_dict()
    for name, value in tensors:
        if value.is_floating_point() != state[name].is_floating_point():
            raise UserError(f"{file}: refused, {name} is of {value.dtype}, expected {state[name].dtype}")
        state[name].copy_(value)


class _Limited(TorchFunctionMode):
    """Counts this thread's operations of PyTorch, and the elements of their results."""

    def __init__(self, operations: int, elements: int) -> None:
        super().__init__()
        self.left = operations
        self.elements = elements
        self.real = MOST_REAL
        self.work = MOST_WORK

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise MismatchError("it has far more layers than the file has tensors")
        result = func(*args, **(kwargs or {}))
        for found in result if isinstance(result, list | tuple) else [result]:
            if isinstance(found, Tensor):
                self._count(found)
                self.work -= found.numel() * _work(getattr(func, "__name__", ""), *args, **(kwargs or {}))
        if self.work < 0:
            raise MismatchError("its maps take more arithmetic than those of any model")
        return result

    def _count(self, found: Tensor) -> None:
        if found.numel() > MOST_ELEMENTS:
            raise MismatchError(f"a map or tensor of it has more than {MOST_ELEMENTS:,} elements")
        self.elements -= found.numel()
        self.real -= 0 if found.is_meta else found.numel()
        if self.elements < 0 or self.real < 0:
            raise MismatchError("its maps and tensors have more elements than those of any model")


def _work(name: str, *args: Any, **kwargs: Any) -> int:
    """Multiplications, or comparisons, for each element of what an operation of PyTorch returns."""
    if "pool" in name and "adaptive" not in name:
        size = kwargs.get("kernel_size", args[1] if len(args) > 1 else 1)
        return math.prod(size) if isinstance(size, list | tuple) else int(size) ** 2
    weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
    if "conv" in name and isinstance(weight, Tensor) and len(weight):
        return weight[0].numel()
    if name in PRODUCTS and args and isinstance(args[0], Tensor) and args[0].dim():
        return args[0].shape[-1]
    return 1
