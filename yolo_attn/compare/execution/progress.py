"""Show the running trainings: a live table on a terminal, a line for each start and end elsewhere."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from yolo_attn.compare.execution.runner import Job
from yolo_attn.compare.study_folder import read_epochs

SCORES = ("metrics/COCO_AP", "metrics/mAP50-95(B)", "metrics/accuracy_top1")
"""Columns of results.csv; the first that exists is shown."""


class Progress:
    """The display of all trainings, `slots` of them at once, that `run_all` updates."""

    def __init__(self, jobs: Sequence[Job], slots: int, console: Console | None = None) -> None:
        self.jobs, self.slots = jobs, slots
        self.console = console or Console()
        self.live = Live(console=self.console, refresh_per_second=2, transient=True)
        self._begun: set[Path] = set()
        self._ended: dict[Path, str] = {}

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, running: Sequence[Job], waiting: Sequence[Job]) -> None:
        """Show the progress; trainings that neither run nor wait have ended."""
        for job in self.jobs:
            if job in running and job.folder not in self._begun:
                self._begun.add(job.folder)
                self._print(job, "starts")
            elif job not in running and job not in waiting and job.folder not in self._ended:
                self._ended[job.folder] = state = "finished" if job.finished else "failed"
                if job.folder in self._begun:
                    self._print(job, self._result(job, state))
        if self.console.is_terminal:
            self.live.update(self.table(running, waiting))

    def table(self, running: Sequence[Job], waiting: Sequence[Job]) -> Table:
        """Return a table with a row for each variant and a column for each seed."""
        seeds = list(dict.fromkeys(job.seed for job in self.jobs))
        finished = len(self.jobs) - len(running) - len(waiting) - list(self._ended.values()).count("failed")
        title = f"{finished} of {len(self.jobs)} trainings{self._time_left(running, waiting)}"
        table = Table(title=title, title_style="bold")
        table.add_column("")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right")
        for variant in dict.fromkeys(job.variant.name for job in self.jobs):
            mine = [job for job in self.jobs if job.variant.name == variant]
            of_seed = {job.seed: job for job in mine}
            cells = [self._cell(of_seed[seed], running, waiting) if seed in of_seed else Text("") for seed in seeds]
            table.add_row(Text(mine[0].variant.label), *cells)
        return table

    def _cell(self, job: Job, running: Sequence[Job], waiting: Sequence[Job]) -> Text:
        epoch, _, score = progress_of(job.folder)
        shown = f"  {score:.3f}" if score is not None else ""
        if job in running:
            return Text(f"{epoch}/{job.training.settings['epochs']}{shown}", style="cyan")
        if job in waiting:
            return Text("waiting", style="dim")
        if self._ended.get(job.folder) == "failed":
            return Text("failed", style="bold red")
        return Text(f"done{shown}", style="green")

    def _print(self, job: Job, text: str) -> None:
        self.console.print(Text(f"{job.variant.label}, seed {job.seed}: {text}"), soft_wrap=True)

    def _result(self, job: Job, state: str) -> str:
        if state == "failed":
            return f"failed, see {job.log}"
        epoch, seconds, score = progress_of(job.folder)
        reached = "" if score is None else f", last score {score:.3f}"
        return f"{epoch} epochs in {seconds / 60:.1f} min{reached}"

    def _time_left(self, running: Sequence[Job], waiting: Sequence[Job]) -> str:
        """Estimate the time left from the seconds of past epochs, of the same variant if it has any.

        Epochs of an earlier try of a waiting training do not count: it starts over.
        """
        seen = {job.folder: progress_of(job.folder) for job in self.jobs if job not in waiting}
        of_all = _epoch_time(seen.values())
        if of_all is None:
            return ""
        left = 0.0
        for job in (*running, *waiting):
            own = [seen[o.folder] for o in self.jobs if o.variant == job.variant and o.folder in seen]
            done = seen[job.folder][0] if job.folder in seen else 0
            left += (job.training.settings["epochs"] - done) * (_epoch_time(own) or of_all)
        left /= max(min(self.slots, len(running) + len(waiting)), 1)
        end = time.strftime("%a %H:%M", time.localtime(time.time() + left))
        return f", about {left / 3600:.1f} h left, until {end}" if left > 3600 else f", about {left / 60:.0f} min left"


def progress_of(run: Path) -> tuple[int, float, float | None]:
    """Return the finished epochs of a training, their seconds, and the last score."""
    rows = read_epochs(run)
    epoch = max(rows, default=0)
    last = rows.get(epoch, {})
    return epoch, last.get("time", 0.0), next((last[name] for name in SCORES if name in last), None)


def _epoch_time(trainings: Collection[tuple[int, float, float | None]]) -> float | None:
    """Return the seconds of one epoch."""
    epochs = sum(epoch for epoch, *_ in trainings)
    return sum(seconds for _, seconds, _ in trainings) / epochs if epochs else None
