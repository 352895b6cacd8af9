"""Plain Python: `YOLO(...).train()` and `.val()` where the model has attention or the data is COCO-format.

There our trainers and validators take the place of Ultralytics' own. A class that the caller gives is kept.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.utils import LOGGER, SETTINGS
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

from yolo_attn.coco.dataset.layouts import FILE_NAMES
from yolo_attn.coco.dataset.locations import as_setting, is_coco_format, parts_of
from yolo_attn.engine.preflight.checks import check_importable, check_task, read_checkpoint
from yolo_attn.engine.preflight.data_checks import describe_training, describe_validation, examine_training
from yolo_attn.engine.run_folder import check_unfinished, find_last, training_data
from yolo_attn.engine.tasks import ours
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.errors import UserError, like
from yolo_attn.extras import extra_of, installing
from yolo_attn.model.registry import is_attention
from yolo_attn.patches.offline import offline
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
    last = _resumed(model, kwargs.get("resume"))
    if last:
        network, checkpoint = read_checkpoint(last, "resume", trust=True)
        _check_unfinished(last, checkpoint)
        data = kwargs.get("data") or checkpoint["train_args"]["data"]
    if isinstance(network, nn.Module):
        check_importable(network)
        check_task(network, str(model.model_name or model.cfg), model.task)
        pretrained = kwargs.get("pretrained", model.overrides.get("pretrained"))
        if isinstance(pretrained, (str, Path)) and not kwargs.get("resume") and not _is_fetched(pretrained, network):
            check_load(read_checkpoint(str(pretrained), "pretrained", trust=True)[0], network)
        teacher = kwargs.get("distill_model")
        if isinstance(teacher, (str, Path)) and not _is_fetched(teacher, network):
            read_checkpoint(str(teacher), "distill_model", trust=True)
            kwargs["distill_model"] = str(Path(teacher).absolute())
    on_coco = _is_coco(data, model)
    if on_coco:
        _check_own("trainer", trainer, model)
        args = _settings(model, kwargs, data)
        described, _ = describe_training(args)
        assert described is not None  # it is COCO-format
        examined = examine_training(args, described)
        kwargs["data"] = _absolute([data])
        kwargs |= {"classes": args.classes} if args.classes is not None else {}
    if trainer is None and (on_coco or _has_attention(network)):
        trainer = _our("trainer", model, on_coco)
        if on_coco and not kwargs.get("resume"):
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
    if isinstance(model.model, nn.Module) and not model.ckpt and not model.trainer:
        LOGGER.warning(
            f"{model.model_name or model.cfg}: not trained, its weights are random; YOLO('best.pt') has some"
        )
    if on_coco:
        _check_own("validator", validator, model)
        args = _settings(model, kwargs, data)
        described = describe_validation(args, model.model, model.names)
        kwargs |= {"classes": args.classes} if args.classes is not None else {}
        kwargs["data"] = _absolute([data])
    if validator is None and (on_coco or _has_attention(model.model)):
        validator = _our("validator", model, on_coco)
        validator = functools.partial(validator, described=described) if on_coco else validator
    return run(model, validator, **kwargs)


def with_extras(run: Callable[..., Any], model: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Ultralytics' `Model.predict`, `track` or `export`; a missing package of an extra is one line.

    Raises:
        UserError: If such a package is missing; it is a ModuleNotFoundError, too.
    """
    try:
        return run(model, *args, **kwargs)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if isinstance(error, UserError) or not extra:
            raise
        text = f"{run.__name__} needs {error.name}, not installed here: {installing(extra)}"
        raise like(ModuleNotFoundError(), UserError(text)) from error


def _resumed(model: Any, resume: Any) -> str | None:
    """The last.pt of the training that is to go on, where it is a file."""
    last = resume if isinstance(resume, (str, Path)) else getattr(model, "ckpt_path", None) if resume else None
    return find_last(str(last)) if last and Path(last).exists() else None


def _check_unfinished(last: str, checkpoint: dict[str, Any]) -> None:
    try:
        check_unfinished(last, checkpoint, "resume ")
    except UserError as error:
        raise like(AssertionError(), error) from error  # as Ultralytics' own


def _is_fetched(weights: str | Path, network: Any) -> bool:
    """Whether weights are Ultralytics' to find or download; without attention, all that are not at hand."""
    if Path(weights).exists():
        return False
    if Path(SETTINGS["weights_dir"], weights).exists():
        return True
    fetched = Path(weights).name in GITHUB_ASSETS_NAMES or "://" in str(weights) or not _has_attention(network)
    return fetched and not offline()


def _our(part: str, model: Any, on_coco: bool) -> Any:
    stock = model._smart_load(part)
    if on_coco and ours(stock) is stock:
        raise UserError(f"{type(model).__name__} takes no COCO-format data, only data YAMLs of Ultralytics' own")
    return ours(stock)


def _check_own(part: str, given: Any, model: Any) -> None:
    """Check that a trainer or validator of the user's reads COCO-format data.

    Raises:
        UserError: If it derives from Ultralytics' own alone, with ours to derive from.
    """
    wanted = ours(model._smart_load(part))
    if isinstance(given, type) and not issubclass(given, wanted):
        way = f"derive it from yolo_attn.{wanted.__name__}"
        raise UserError(f"{part}={given.__name__}: Ultralytics' own cannot read COCO-format data; {way}")


def _named_data(model: Any, settings: dict[str, Any]) -> Any:
    """What a call names as data, itself, in its file of settings, or by the checkpoint that it starts from.

    Several COCO-format sets are one, as the command line joins them; several others are Ultralytics' own to train on.

    Raises:
        UserError: If only some of several are COCO-format.
    """
    of_file = get_cfg(settings["cfg"]).data if settings.get("cfg") else None
    data = settings.get("data") or of_file or _trained_on(model)
    if not isinstance(data, (list, tuple)):
        return data
    others = [str(named) for named in data if not _is_coco(named, model)]
    if others and len(others) < len(data):
        raise UserError(f"data: {', '.join(others)}: not COCO-format, as the others are; they cannot be joined")
    return data if others or not data else _absolute(data)


def _trained_on(model: Any) -> Any:
    """The data of the training that made a model, of a run folder that has moved, too."""
    data, checkpoint = model.overrides.get("data"), getattr(model, "ckpt", None)
    trained = checkpoint.get("train_args") if isinstance(checkpoint, dict) else None
    return training_data(model.ckpt_path, trained) if trained and trained.get("data") == data else data


def _is_coco(data: Any, model: Any) -> bool:
    return model.task in FILE_NAMES and is_coco_format(data)


def _settings(model: Any, settings: dict[str, Any], data: str) -> SimpleNamespace:
    of_file = vars(get_cfg(settings["cfg"])) if settings.get("cfg") else model.overrides
    return SimpleNamespace(**{**DEFAULT_CFG_DICT, **of_file, **settings, "data": data, "task": model.task})


def _absolute(sets: Sequence[str | Path]) -> str:
    """Paths that still lead there when a run goes on from another folder."""
    return as_setting([part.absolute() for named in sets for part in parts_of(named)])


def _has_attention(network: Any) -> bool:
    return isinstance(network, nn.Module) and any(map(is_attention, network.modules()))
