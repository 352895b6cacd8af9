"""A mixin of trainers: the run's folder is one training's own, its files are whole, and it goes if no training began.

What stops a training is reported in one line that says how to resume.
"""

import contextlib
import csv
import io
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import LOGGER, RANK

from yolo_attn.engine.run_folder import check_replaceable, claim, clear, run_folder, tidy, way_on
from yolo_attn.engine.training import distributed
from yolo_attn.environment import replaced
from yolo_attn.errors import RunError, like, one_line
from yolo_attn.files import os_error_line, remove_empty, whole_files, write_bytes, write_text

LOST_WORKER = "DataLoader worker"
"""How PyTorch begins when a process that reads images was killed, by want of memory for instance."""


class RunFiles(BaseTrainer):
    """Mixin for any trainer of Ultralytics': a folder of its own, whole files, and one line about what stops it."""

    last: Path
    best: Path
    wdir: Path
    csv: Path
    made: Sequence[Path] = ()
    all_trained = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with self._reported():
            super().__init__(*args, **kwargs)

    def train(self) -> Any:
        """Train; on failure, report how to resume."""
        with self._reported(), _threads_reported(), distributed.lost_workers_reported(self.last):
            return super().train()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Settle on the run folder: a cut-off run's own, wherever it lies by now, or one that nobody else has."""
        super().check_resume(overrides)
        last = Path(self.args.model).resolve() if self.resume else None
        if last and last.parent.name == "weights":
            self.args.save_dir = str(last.parents[1])
        distributed.enter(self.args)
        if RANK in {-1, 0}:
            self.made = [] if last else claim(self.args)
            folder = run_folder(self.args)
            check_replaceable(folder, last)
            LOGGER.info(f"run folder: {folder}")
            tidy(folder)
            if not last:
                (folder / "results.csv").unlink(missing_ok=True)  # early 8.3 would write on in it
        distributed.share_folder(self.args)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not hasattr(self, "epoch") and not getattr(self, "ddp", False):
                self._undo_folder()
            if isinstance(error, KeyboardInterrupt):
                error.args = (self._way_on(),)
            if isinstance(error, RunError):  # from a process that reads images it comes with that one's traceback
                raise RunError(str(error).rpartition("RunError: ")[2], self._way_on()) from error
            if isinstance(error, OSError) and error.errno is not None:
                reason = os_error_line(error, self.made[0] if self.made else None)
                raise like(error, RunError(reason, self._way_on())) from error
            if isinstance(error, RuntimeError) and LOST_WORKER in str(error):
                raise like(error, RunError(one_line(error), self._way_on())) from error
            raise

    def _undo_folder(self) -> None:
        """Remove the folders that were made for a training that did not come to its first epoch."""
        if not self.made or any(self.made[0].glob("weights/*")) or any(self.made[0].glob("results.csv")):
            return  # processes that were started for it may have come further
        with contextlib.suppress(OSError):
            clear(self.made[0])
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
            columns = len(next(csv.reader([header])))
            whole = [row for row in rows if row.count(",") == columns - 1]
            kept = [row for row in whole if float(row.split(",")[0]) <= self.start_epoch]
            write_text(self.csv, "\n".join([header, *kept]) + "\n")

    def save_model(self) -> Any:
        """Save so that a kill, or a full disk, leaves the last whole checkpoints."""
        with (
            whole_files(self.wdir) as scratch,
            replaced(self, wdir=scratch, last=scratch / self.last.name, best=scratch / self.best.name),
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
            header = next(csv.reader(file.read_text(encoding="utf-8").splitlines()))
            if header[0] != header[0].strip():  # early 8.3 pads its names; a class may have blanks of its own
                header = [column.strip() for column in header]
            metrics = {column: metrics.get(column, 0.0) for column in header if column not in {"epoch", "time"}}
        with whole_files(file.parent) as scratch, replaced(self, csv=scratch / file.name):
            if begun:
                shutil.copyfile(file, self.csv)
            super().save_metrics(metrics)
            if not begun:
                self._write_header(list(metrics))

    def _write_header(self, names: list[str]) -> None:
        """Write the names of the first row's columns as a CSV has them, in quotation marks where they have commas."""
        row = self.csv.read_text(encoding="utf-8").splitlines()[-1]
        before = ("epoch", "time")[: row.count(",") + 1 - len(names)]  # early 8.3 has no time
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([*before, *names])
        write_text(self.csv, f"{text.getvalue()}{row}\n")

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

        with replaced(torch, save=save_whole):
            super().final_eval()


@contextlib.contextmanager
def _threads_reported() -> Iterator[None]:
    """Report an image that a thread of Ultralytics' cannot write, and let the training go on."""
    report = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if isinstance(args.exc_value, OSError):
            LOGGER.warning(f"a plot was not written: {os_error_line(args.exc_value)}")
        else:
            report(args)

    with replaced(threading, excepthook=hook):
        yield
