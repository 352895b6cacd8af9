"""Files of weights: checkpoints read without running anything, safetensors files of ours, and bare state dicts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from yolo_attn.errors import UserError, like, listed
from yolo_attn.files import check_plain_file
from yolo_attn.safe.archive import SavedFile
from yolo_attn.safe.checkpoints import model_in
from yolo_attn.safe.pickles import Record, TensorRecord
from yolo_attn.safe.safetensors_file import SUFFIX, read_weights

PICKLED = (".pt", ".pth")
"""How files of checkpoints and of state dicts end, but for safetensors."""

KEY = re.compile(r"(?:module\.|model\.)?(model\.([0-9]{1,9})(?:\.[^.]{1,200}){1,50})")
"""A tensor's name in a model of Ultralytics', its row in it; in front of it what parallel training or `YOLO` puts."""

TENSORS = (Tensor, TensorRecord)

ORIGIN = "best.pt or last.pt of a training, or a checkpoint that you downloaded from Ultralytics' releases"
"""Where a checkpoint that is missing comes from."""

WRAPPERS = ("state_dict", "ema", "model")
"""Keys under which other trainers save a state dict."""


MOST_ROWS = 10_000
"""Of a model, by far."""

CLASSES = ("cv3.0.2.weight", "enc_score_head.weight", "linear.weight")
"""Tensors of heads with as many rows as there are classes."""


class StateDict(nn.Module):
    """Tensors by their names, as a model of nothing but them: what Ultralytics loads from, without the model YAML.

    Args:
        tensors: Each one's name begins with "model." and its row.
        file: Where they came from.

    Attributes:
        model: The rows.
    """

    def __init__(self, tensors: dict[str, Tensor], file: str) -> None:
        super().__init__()
        self.pt_path = file
        rows = {int(key.split(".")[1]) for key in tensors}
        number = 1 + max(rows)
        if number > MOST_ROWS:
            raise UserError(f"{file}: not the weights of a model: it has a row {max(rows)}")
        self.model = nn.Sequential(*(nn.Module() for _ in range(number)))
        for key, value in tensors.items():
            *path, name = key.split(".")
            owner: nn.Module = self
            try:
                for part in path:
                    if part not in owner._modules:
                        owner.add_module(part, nn.Module())
                    owner = owner.get_submodule(part)
            except (KeyError, AttributeError) as error:
                raise UserError(f"{file}: not the weights of a model: {key}") from error
            if hasattr(owner, name):
                raise UserError(f"{file}: not the weights of a model: {key}")
            if name.startswith(("running_", "num_batches")) or not value.is_floating_point():
                owner.register_buffer(name, value)
            else:
                owner.register_parameter(name, nn.Parameter(value))

    @property
    def classes(self) -> int:
        """The number of classes that the head knows; 0 where that is unknown."""
        head = self.model[-1].state_dict()
        return next((len(head[name]) for name in CLASSES if name in head), 0)

    def is_fused(self) -> bool:
        """Whether batch norms are folded into convolutions, which their tensors would tell."""
        return False

    @property
    def task(self) -> str:
        """Refused: it is what Ultralytics asks first of a file that is to be a model.

        Raises:
            UserError: Always.
        """
        text = f"{self.pt_path}: a state dict, without its model YAML; load it into a model of a YAML"
        raise like(TypeError(), UserError(text))


def load_checkpoint(load: Callable[..., Any], weight: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Ultralytics' loader of a checkpoint, which also takes safetensors files of ours and state dicts.

    These are read onto the CPU as they are, whatever Ultralytics' own loader is asked for besides.

    Returns:
        The model, or a `StateDict`, and the checkpoint's content.

    Raises:
        UserError: If Ultralytics refuses a folder, a file of another kind, or one that can be read and holds neither;
            it is of the kind that Ultralytics raises, too.
    """
    file = Path(weight)
    if file.exists() and not file.is_dir():
        check_plain_file(file)
    if file.is_file() and file.suffix == SUFFIX:
        model = load_inert(file)
        return model, {"model": model, "train_args": getattr(model, "args", {})}
    found = _look_into(file)
    if isinstance(found, StateDict):
        return found, {"model": found}
    try:
        return load(weight, *args, **kwargs)
    except Exception as error:
        if found is None:
            raise
        raise like(error, found) from error


def _look_into(file: Path) -> StateDict | UserError | None:
    """The state dict in a file, or why it is no source of weights; None where only Ultralytics' loader can know."""
    if not file.exists():
        return None
    try:
        check_file(file)
    except UserError as error:
        return error
    try:
        saved = SavedFile(file)
    except UserError:  # no checkpoint, which Ultralytics says in its own words, or one that only it reads
        return None
    with saved:
        try:
            return _state_dict(saved)
        except UserError as error:
            return error


def check_file(file: Path) -> None:
    """Raise UserError unless a path leads to a plain file, whose name ends as a checkpoint's does."""
    if file.is_dir():
        raise UserError(f"{file}: a folder, expected a file, such as the best.pt of a training")
    check_plain_file(file)
    if file.suffix.lower() not in {*PICKLED, SUFFIX}:
        raise UserError(f"{file}: expected a checkpoint, a file ending with {', '.join(PICKLED)} or {SUFFIX}")


def load_inert(file: Path) -> Any:
    """A checkpoint's model, or the `StateDict` in a file of tensors, without running anything that the file names.

    Raises:
        UserError: As `load_safe`.
    """
    check_plain_file(file)
    if file.suffix == SUFFIX:
        return read_weights(file)
    with SavedFile(file) as saved:
        return _state_dict(saved) or model_in(saved)


def load_safe(path: str | Path) -> nn.Module:
    """A checkpoint's model, built anew from the checkpoint's model YAML; nothing that the file names is run.

    Takes Ultralytics' checkpoints of every family and task and ours, cut-off trainings' included, and `.safetensors`
    files of `yolo-attn export`. Layers of your own are known after the module that registers them was imported.

    Args:
        path: The `.pt` or `.safetensors` file.

    Returns:
        The model (the averaged one where there is one) as Ultralytics' loader gives it: float32, in eval mode, with
        `names`, `stride`, `yaml`, `task`, and the training's settings in `args`.

    Raises:
        UserError: In one line, if the file is missing, broken, or its model is not what its model YAML builds.
    """
    model = load_inert(Path(path))
    if isinstance(model, StateDict):
        raise UserError(f"{path}: a state dict, without its model YAML; load it into a model of a YAML")
    return model


def source_of(weights: Any) -> Any:
    """The model, or the `StateDict`, in what is given to a model to load."""
    if not isinstance(weights, dict):
        return weights
    tensors = _tensors(weights)
    try:
        return StateDict(tensors, "a state dict") if tensors else weights.get("ema") or weights.get("model")
    except UserError as error:
        raise like(KeyError(), error) from error  # as Ultralytics, which looks for a model in it


def _state_dict(saved: SavedFile) -> StateDict | None:
    """The state dict in a file; None where it holds objects, among which may be a model.

    Raises:
        UserError: If it holds neither.
    """
    content = saved.content
    tensors = _tensors(content)
    if tensors:
        return StateDict(dict(saved.tensors(tensors)), str(saved.file))
    if not any(isinstance(part, Record) for part in (content.values() if isinstance(content, dict) else [content])):
        raise UserError(
            f"{saved.file}: it holds {_described(content)}, expected a checkpoint of Ultralytics', or a state dict "
            "with names such as model.0.conv.weight; this is no supported Ultralytics checkpoint format"
        )
    return None


def _tensors(content: Any) -> dict[str, Any] | None:
    """The state dict in a checkpoint's content, or in the records of one, if it holds nothing else."""
    content = _unwrapped(content)
    if not isinstance(content, dict) or not all(isinstance(value, TENSORS) for value in content.values()):
        return None
    named = {match[1]: content[key] for key in content if (match := KEY.fullmatch(str(key)))}
    return named if named and len(named) == len(content) else None


def _unwrapped(content: Any) -> Any:
    if isinstance(content, dict):
        return next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    return content


def _described(content: Any) -> str:
    """What a file holds that is no source of weights."""
    content = _unwrapped(content)
    if not isinstance(content, dict) or not content:
        return f"a {'Tensor' if isinstance(content, TensorRecord) else type(content).__name__}"
    kind = "tensors named" if all(isinstance(value, TENSORS) for value in content.values()) else "a dict of"
    return f"{kind} {listed(map(str, content))}"
