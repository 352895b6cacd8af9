"""A run's folder: one training's own, every file in it whole, and gone again if the training never began.

Whatever stops a training is told in one line, with the way on from there.
"""

import contextlib
import io
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.cfg import get_save_dir
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils import files as paths

from yolo_attn.errors import RunError, UserError, one_line
from yolo_attn.files import remove_parts, told, whole_files, write_bytes, write_text

LOST_WORKER = "DataLoader worker"
"""How PyTorch begins when a process that reads pictures was killed, by want of memory for instance."""

ATTEMPTS = 100
"""How often a new training looks for a run folder that no other one takes meanwhile."""

_choosing = threading.Lock()


class RunFiles(BaseTrainer):
    """Mixin for any trainer of Ultralytics': a folder of its own, whole files, and one line about what stops it."""

    last: Path
    best: Path
    wdir: Path
    csv: Path
    made: Sequence[Path] = ()
    all_trained = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with self._told():
            super().__init__(*args, **kwargs)

    def train(self) -> Any:
        """Train; what stops it is told with the way on."""
        with self._told(), _threads_told():
            return super().train()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Settle on the run folder: a cut-off run's own, wherever it lies by now, or one that nobody else has."""
        super().check_resume(overrides)
        weights = Path(self.args.model).resolve().parent if self.resume else Path()
        if weights.name == "weights":
            self.args.save_dir = str(weights.parent)
        self.join()
        if RANK in {-1, 0} and weights.name == "weights":
            remove_parts(weights.parent)
        elif RANK in {-1, 0} and not self.resume:
            self.made = claim(self.args)
            Path(self.args.save_dir, "results.csv").unlink(missing_ok=True)  # early 8.3 would write on in it
        self.share_folder()

    def join(self) -> None:
        """Meet the other processes of this training, before the run folder is made."""

    def share_folder(self) -> None:
        """Give the other processes of this training the run folder of the first."""

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not hasattr(self, "epoch") and not getattr(self, "ddp", False):
                self._undo_folder()
            if isinstance(error, KeyboardInterrupt):
                error.args = (self._way_on(),)
            if isinstance(error, RunError):  # from a process that reads pictures it comes with that one's traceback
                raise RunError(str(error).rpartition("RunError: ")[2], self._way_on()) from error
            if isinstance(error, OSError) and error.errno is not None:
                raise RunError(told(error, self.made[0] if self.made else None), self._way_on()) from error
            if isinstance(error, RuntimeError) and LOST_WORKER in str(error):
                raise RunError(one_line(error), self._way_on()) from error
            raise

    def _undo_folder(self) -> None:
        """Remove the folders that were made for a training that did not come to its first epoch."""
        if not self.made or any(self.made[0].glob("weights/*")) or any(self.made[0].glob("results.csv")):
            return  # processes that were started for it may have come further
        shutil.rmtree(self.made[0], ignore_errors=True)
        remove_empty(self.made[1:])

    def _way_on(self) -> str:
        if self.all_trained:
            return f"all epochs are done, yolo-attn val --weights {self.best} gives its metrics"
        return way_on(getattr(self, "last", None))

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on behind the last saved epoch; rows that were written beyond it, whole or not, are dropped."""
        super().resume_training(ckpt)
        if self.start_epoch and RANK in {-1, 0} and self._has_rows():
            header, *rows = self.csv.read_text(encoding="utf-8").splitlines()
            whole = [row for row in rows if row.count(",") == header.count(",")]
            kept = [row for row in whole if float(row.split(",")[0]) <= self.start_epoch]
            write_text(self.csv, "\n".join([header, *kept]) + "\n")

    def save_model(self) -> Any:
        """Save so that a kill, or a full disk, leaves the last whole checkpoints."""
        with (
            whole_files(self.wdir) as scratch,
            _replaced(self, wdir=scratch, last=scratch / self.last.name, best=scratch / self.best.name),
        ):
            return super().save_model()

    def _has_rows(self) -> bool:
        """Whether results.csv has begun; a full disk may have left it empty."""
        return self.csv.exists() and self.csv.stat().st_size > 0

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write a row of results.csv: always the same columns, learning rates last."""
        metrics = dict(sorted(metrics.items(), key=lambda item: item[0].startswith("lr/")))
        file, begun = self.csv, self._has_rows()
        if begun:
            header = file.read_text(encoding="utf-8").splitlines()[0].split(",")
            columns = [column.strip() for column in header if column.strip() not in {"epoch", "time"}]
            metrics = {column: metrics.get(column, 0.0) for column in columns}
        with whole_files(file.parent) as scratch, _replaced(self, csv=scratch / file.name):
            if begun:
                shutil.copyfile(file, self.csv)
            super().save_metrics(metrics)

    def final_eval(self) -> None:
        """Strip the checkpoints, whole ones as well, and validate the best."""
        self.all_trained = True
        save = torch.save

        def save_whole(content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
            if not isinstance(file, (str, Path)):
                return save(content, file, *args, **kwargs)
            stream = io.BytesIO()
            save(content, stream, *args, **kwargs)
            return write_bytes(Path(file), stream.getvalue())

        with _replaced(torch, save=save_whole):
            super().final_eval()


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

    def not_made(path: str | Path, exist_ok: bool = False, sep: str = "", mkdir: bool = False) -> Path:
        return increment(path, exist_ok, sep)

    with _choosing, _replaced(paths, increment_path=not_made):
        return get_save_dir(args)


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


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, as far as nothing lies in them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def way_on(last: Path | None) -> str:
    """How a training that was stopped goes on.

    Args:
        last: Its last.pt, which need not be there.
    """
    return f"go on with train --resume {last}" if last and last.exists() else "there is no checkpoint yet"


@contextlib.contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give an object's attributes other values for a while."""
    before = {name: getattr(owner, name) for name in values}
    vars(owner).update(values)
    try:
        yield
    finally:
        vars(owner).update(before)


@contextlib.contextmanager
def _threads_told() -> Iterator[None]:
    """Ultralytics' threads draw pictures: one that cannot be written is told of, and the training goes on."""
    tell = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if isinstance(args.exc_value, OSError):
            LOGGER.warning(f"a plot was not written: {told(args.exc_value)}")
        else:
            tell(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = tell
