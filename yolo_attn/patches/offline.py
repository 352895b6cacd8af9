"""YOLO_OFFLINE, which Ultralytics heeds in part: under it nothing is fetched, and no `download:` of a YAML is run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.utils import DATASETS_DIR

from yolo_attn.errors import UserError, like
from yolo_attn.weights.checkpoint_files import ORIGIN


def offline() -> bool:
    """Whether YOLO_OFFLINE is set to something that means yes."""
    return os.environ.get("YOLO_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def is_url(ask: Callable[..., bool], url: str, check: bool = False) -> bool:
    """Like Ultralytics', but offline it does not ask whether a font can be downloaded."""
    return not (check and offline()) and ask(url, check)


def get_github_assets(ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Like Ultralytics', but offline there are no files to offer for a checkpoint that is missing."""
    return ("", []) if offline() else ask(*args, **kwargs)


def safe_download(download: Callable[..., Any], url: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Like Ultralytics', which also unpacks archives that are there, but offline it fetches nothing.

    Raises:
        UserError: Offline, unless `url` is a file; it is a ConnectionError, too.
    """
    if offline() and not Path(url).is_file():
        name = str(url).rpartition("/")[2]
        file = f"{name}: no such file; it is the {ORIGIN}" if name.endswith(".pt") else url
        raise like(ConnectionError(), UserError(f"{file}: not downloaded, YOLO_OFFLINE is set"))
    return download(url, *args, **kwargs)


def check_det_dataset(
    check: Callable[..., Any], dataset: str | Path, autodownload: bool = True, *args: Any, **kwargs: Any
) -> Any:
    """Like Ultralytics', but offline what the data YAML says under `download` is neither fetched nor run."""
    return check(dataset, autodownload and not offline(), *args, **kwargs)


def check_cls_dataset(check: Callable[..., Any], dataset: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Like Ultralytics', but offline a folder that is missing is not downloaded, nor is a script run that would.

    Raises:
        UserError: Offline, if there is neither such a folder nor such an archive; it is a FileNotFoundError, too.
    """
    if offline() and not any(Path(folder, dataset).exists() for folder in (".", DATASETS_DIR)):
        text = f"{dataset}: no such folder, here or under {DATASETS_DIR}; not downloaded, YOLO_OFFLINE is set"
        raise like(FileNotFoundError(), UserError(text))
    return check(dataset, *args, **kwargs)
