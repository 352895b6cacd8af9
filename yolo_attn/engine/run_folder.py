"""Run folders: which one a new training takes, and which files in one are a run's."""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from ultralytics import cfg
from ultralytics.utils import files as paths

from yolo_attn.environment import replaced
from yolo_attn.errors import UserError
from yolo_attn.files import remove_empty, remove_temporaries

DATA_YAML = "data.yaml"
"""What a run has used of its data, in its folder."""

ATTEMPTS = 100
"""How often a new training looks for a run folder that no other one takes meanwhile."""

KEPT = r"(args|data)\.yaml|results\.csv|(metrics|predictions)\.json|weights/(last|best|epoch\d+)\.pt"
"""Files of a run that another run in its folder replaces, and that may be somebody's work."""

PLOTS = (
    r"results\.png|labels(_correlogram)?\.jpg|train_batch\d+\.jpg|val_batch\d+_(labels|pred)\.jpg"
    r"|confusion_matrix(_normalized)?\.png|(Box|Mask|Pose)?(F1|PR|P|R)_curve\.png"
)

WRITTEN = rf"{KEPT}|{PLOTS}|(data_report|transfer|run|failed)\.json|events\.out\.tfevents\.\d+\..*"
"""All files that a run writes into its folder."""

BEGIN = 2**20
"""Bytes of a run's file that are looked at to know it."""

_choosing = threading.Lock()


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, of whichever release.

    A training begins with an args.yaml that says `mode: train`; an empty one is what a full disk leaves. A validation
    ends with a metrics.json that says by which version of this package.
    """
    args, metrics = _begin(folder / "args.yaml"), _begin(folder / "metrics.json")
    trained = args is not None and (not args or re.search(rb"^mode: train\r?$", args, re.MULTILINE))
    return bool(trained or (metrics and b'"versions"' in metrics and b'"yolo_attn"' in metrics))


def _begin(file: Path) -> bytes | None:
    """The first bytes of a plain file; None where there is none."""
    if file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as stream:
        return stream.read(BEGIN)


def written(folder: Path, names: str = WRITTEN) -> list[Path]:
    """Files of a folder, there or not, and of the weights/ in it, under the names that a run gives."""
    places = [place for place in (folder, folder / "weights") if place.is_dir()]
    found = (file for place in places for file in place.iterdir() if file.is_symlink() or not file.is_dir())
    return sorted(file for file in found if re.fullmatch(names, file.relative_to(folder).as_posix()))


def check_replaceable(folder: Path, last: Path | None = None, labels: bool = False) -> None:
    """Check that a run may write into a folder that is there already.

    Args:
        folder: The folder, there or not.
        last: The checkpoint in it that the run goes on from.
        labels: Whether the run writes labels/*.txt, in place of all that are there.

    Raises:
        UserError: If a file of a run's name is a link, or the folder is no run's and such a file may be somebody's
            work.
    """
    for file in (folder / "weights", *written(folder)):
        if file.is_symlink():
            raise UserError(f"{file}: it is a link, and a run would write through it; move it away")
    others = [*written(folder, KEPT), *((folder / "labels").glob("*.txt") if labels else ())]
    for file in others:
        if file != last and not is_run(folder):
            raise UserError(
                f"{file}: a run would replace it, and {folder} is no run folder, with the args.yaml of a training; "
                "choose another folder, or move the file away"
            )


def clear(folder: Path) -> None:
    """Remove what a training wrote into its run folder, and the folder if nothing else lies in it."""
    places = _places(folder)
    for file in written(folder):
        if file.parent in places:
            file.unlink(missing_ok=True)
    remove_temporaries(*places)
    remove_empty(reversed(places))


def tidy(folder: Path) -> None:
    """Remove what a killed training has left half written in its run folder."""
    if is_run(folder):
        remove_temporaries(*_places(folder))


def _places(folder: Path) -> list[Path]:
    """Where a run writes: its folder and, if that is no link, weights/."""
    weights = folder / "weights"
    return [folder] if weights.is_symlink() else [folder, weights]


def claim(args: SimpleNamespace) -> Sequence[Path]:
    """Make a new training's run folder and put it into its settings; no two trainings get the same.

    Returns:
        The folders that this process made, the innermost first.

    Raises:
        UserError: If there is no free name for it.
    """
    made: list[Path] = []
    try:
        for _ in range(ATTEMPTS):
            folder = run_folder(args)
            shared = bool(args.exist_ok or getattr(args, "save_dir", None))
            try:
                _make(folder, shared, made)
            except (FileExistsError, FileNotFoundError):  # another training was faster, or has just removed its folders
                if shared and folder.exists():  # it is a file
                    raise
                continue
            args.save_dir = str(folder)
            return made
        raise UserError(f"{folder}: no run folder can be made there, nor under the next names; choose another --name")
    except BaseException:
        remove_empty(made)
        raise


def run_folder(args: SimpleNamespace) -> Path:
    """The folder that Ultralytics chooses for a run, not made: some releases make it as they choose it."""
    increment = paths.increment_path

    def not_made(*args: Any, **kwargs: Any) -> Path:
        return increment(*args, **{**kwargs, "mkdir": False})

    with _choosing, replaced(paths, increment_path=not_made):
        return cfg.get_save_dir(args)


def find_last(last: str | Literal[True], project: str | None = None) -> str:
    """The last.pt of a run: the newest of a folder of run folders, the one of a run folder, or the file itself.

    Args:
        last: The file or the run folder; True takes the newest under `project`.
        project: Folder of the run folders; None looks in all of runs/.

    Raises:
        UserError: If there is none under `project`.
    """
    if last is not True:
        return str(Path(last, "weights", "last.pt")) if Path(last).is_dir() else last
    folder, pattern = (Path(project), "*") if project else (Path("runs").absolute(), "*/*")
    found = sorted(folder.glob(f"{pattern}/weights/last.pt"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserError(f"--resume: no last.pt under {folder}/{pattern}/weights")
    return str(found[-1])


def training_data(weights: str, trained: Mapping[str, Any]) -> str | None:
    """Return the data that a checkpoint was trained on, by the settings of that training.

    Where options have chosen among the annotations it is the run's own data.yaml, wherever the run folder lies now.
    """
    data = trained.get("data")
    if data and Path(data) == Path(trained.get("project") or "", trained.get("name") or "", DATA_YAML):
        return str(Path(weights).absolute().parent.parent / DATA_YAML)
    return data


def check_unfinished(last: str, checkpoint: dict[str, Any], option: str = "--resume ") -> None:
    """Check that a training can go on from its last.pt.

    Args:
        last: The file.
        checkpoint: What it holds.
        option: Begins the message.

    Raises:
        UserError: If the training is finished, with how to train on.
    """
    if checkpoint.get("optimizer") is not None and checkpoint["epoch"] + 1 < checkpoint["train_args"]["epochs"]:
        return
    best = Path(last).resolve().with_name("best.pt")
    tidy(best.parents[1])  # one that was killed behind its last epoch has nothing else to go on with
    metrics = "" if (best.parents[1] / "metrics.json").exists() else f"; val --weights {best} gives its metrics"
    raise UserError(
        f"{option}{last}: that training is finished, there is nothing to go on with; a new one begins from it with "
        f"train --weights {last}{metrics}"
    )


def way_on(last: Path | None) -> str:
    """How a training that was stopped goes on, given its last.pt, which need not be there."""
    return f"go on with train --resume {last}" if last and last.exists() else "there is no checkpoint yet"


def _make(folder: Path, shared: bool, made: list[Path]) -> None:
    """Make a folder, which may be there already if it is `shared`, and what is missing above it.

    What this process makes, and no other one meanwhile, comes to lie at the front of `made`.
    """
    for each in (*reversed(folder.parents), folder):
        if each.is_dir() and each != folder:
            continue
        try:
            each.mkdir()
            made.insert(0, each)
        except FileExistsError:
            if not each.is_dir() or (each == folder and not shared):
                raise
