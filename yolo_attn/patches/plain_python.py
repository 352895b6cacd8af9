"""Plain Python: `YOLO(...).train()` and `.val()` where the model has attention or the data is COCO-format.

There our trainers and validators take the place of Ultralytics' own. A class that the caller gives is kept.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.utils import SETTINGS
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

from yolo_attn.coco.dataset.locations import FILE_NAMES, as_setting, is_coco_format, parts_of
from yolo_attn.engine.preflight.checks import check_importable, check_task, read_checkpoint
from yolo_attn.engine.preflight.data_checks import describe_training, describe_validation, examine_training
from yolo_attn.engine.tasks import ours
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.errors import UserError
from yolo_attn.model.registry import is_attention
from yolo_attn.weights.transfer import check_load


def train(run: Callable[..., Any], model: Any, /, trainer: Any = None, **kwargs: Any) -> Any:
    """Ultralytics' `Model.train`, with our trainer where it is needed.

    `trainer` is a class of the caller's. `data` may also be a COCO-format folder or a data YAML with `annotations`.

    Returns:
        Ultralytics' metrics, with COCO's numbers as `coco` after a training on COCO-format data.

    Raises:
        UserError: If COCO-format data or pretrained weights cannot be used, or nothing could load the checkpoints.
    """
    network, data = model.model, _named_data(model, kwargs)
    if isinstance(kwargs.get("resume"), (str, Path)) and Path(kwargs["resume"]).is_file():
        network, checkpoint = read_checkpoint(str(kwargs["resume"]), "resume", trust=True)
        data = kwargs.get("data") or checkpoint["train_args"]["data"]
    if isinstance(network, nn.Module):
        check_importable(network)
        check_task(network, str(model.model_name or model.cfg), model.task)
        pretrained = kwargs.get("pretrained", model.overrides.get("pretrained"))
        if isinstance(pretrained, (str, Path)) and not kwargs.get("resume") and not _is_fetched(pretrained, network):
            check_load(read_checkpoint(str(pretrained), "pretrained", trust=True)[0], network)
    sets = data if isinstance(data, (list, tuple)) else [data]
    on_coco = [named for named in sets if _is_coco(named, model)]
    for named in on_coco:
        args = _settings(model, kwargs, named)
        described, _ = describe_training(args)
        assert described is not None  # it is COCO-format
        examined = examine_training(args, described)
    if on_coco:
        given = [_absolute(named) if named in on_coco else named for named in sets]
        kwargs["data"] = given if isinstance(data, (list, tuple)) else given[0]
        kwargs |= {"classes": args.classes} if args.classes is not None else {}
    if trainer is None and (on_coco or _has_attention(network)):
        trainer = _our("trainer", model, bool(on_coco))
        if on_coco and not isinstance(data, (list, tuple)) and not kwargs.get("resume"):
            prepared = Prepared(data=described, examined=examined)
            trainer = functools.partial(trainer, prepared=prepared)
    return run(model, trainer, **kwargs)


def val(run: Callable[..., Any], model: Any, /, validator: Any = None, **kwargs: Any) -> Any:
    """Ultralytics' `Model.val`, with our validator where it is needed; without `data`, on a checkpoint's training data.

    Returns:
        Ultralytics' metrics, with COCO's numbers as `coco` on COCO-format data.

    Raises:
        UserError: If COCO-format data cannot be used, or has no class that the model knows.
    """
    data = _named_data(model, kwargs)
    on_coco = _is_coco(data, model)
    if on_coco:
        args = _settings(model, kwargs, data)
        described = describe_validation(args, model.model, model.names)
        kwargs |= {"classes": args.classes} if args.classes is not None else {}
        kwargs["data"] = _absolute(data)
    if validator is None and (on_coco or _has_attention(model.model)):
        validator = _our("validator", model, on_coco)
        validator = functools.partial(validator, described=described) if on_coco else validator
    return run(model, validator, **kwargs)


def _is_fetched(weights: str | Path, network: Any) -> bool:
    """Whether weights are Ultralytics' to find or download; without attention, all that are not at hand."""
    if Path(weights).exists():
        return False
    kept = Path(SETTINGS["weights_dir"], weights).exists() or Path(weights).name in GITHUB_ASSETS_NAMES
    return kept or "://" in str(weights) or not _has_attention(network)


def _our(part: str, model: Any, on_coco: bool) -> Any:
    stock = model._smart_load(part)
    if on_coco and ours(stock) is stock:
        raise UserError(f"{type(model).__name__} takes no COCO-format data, only data YAMLs of Ultralytics' own")
    return ours(stock)


def _named_data(model: Any, settings: dict[str, Any]) -> Any:
    """What a call names as data, itself, in its file of settings, or by the checkpoint that it starts from."""
    of_file = get_cfg(settings["cfg"]).data if settings.get("cfg") else None
    return settings.get("data") or of_file or model.overrides.get("data")


def _is_coco(data: Any, model: Any) -> bool:
    return model.task in FILE_NAMES and is_coco_format(data)


def _settings(model: Any, settings: dict[str, Any], data: str) -> SimpleNamespace:
    of_file = vars(get_cfg(settings["cfg"])) if settings.get("cfg") else model.overrides
    return SimpleNamespace(**{**DEFAULT_CFG_DICT, **of_file, **settings, "data": data, "task": model.task})


def _absolute(data: str | Path) -> str:
    """A path that still leads there when a run goes on from another folder."""
    return as_setting([part.absolute() for part in parts_of(data)])


def _has_attention(network: Any) -> bool:
    return isinstance(network, nn.Module) and any(map(is_attention, network.modules()))
