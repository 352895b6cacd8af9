"""The trainings of a comparison while they run: a live table on a terminal, a line for each elsewhere."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from yolo_attn.compare.runner import Job

SCORES = ("metrics/COCO_AP", "metrics/mAP50-95(B)", "metrics/accuracy_top1")
"""Columns of a training's results.csv, of which the first that is there is shown."""


class Progress:
    """What `run_all` calls as it watches.

    Args:
        jobs: All trainings.
        slots: How many run at once.
        console: Where it is shown; None takes standard output.
    """

    def __init__(self, jobs: Sequence[Job], slots: int, console: Console | None = None) -> None:
        self.jobs, self.slots = jobs, slots
        self.console = console or Console()
        self.live = Live(console=self.console, refresh_per_second=2, transient=True)
        self._told: set[tuple[Path, str]] = set()

    def __enter__(self) -> "Progress":
        for job in self.jobs:
            if job.finished:
                self._told.add((job.folder, "finished"))
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, running: Sequence[Job]) -> None:
        """Show how far the trainings are."""
        if self.console.is_terminal:
            self.live.update(self.table(running))
        for job in self.jobs:
            state = self._state(job, running)
            if state in ("finished", "failed", "training") and (job.folder, state) not in self._told:
                self._told.add((job.folder, state))
                self.console.print(Text(f"{job.variant.label}, seed {job.seed}: {self._line(job, state)}"))

    def table(self, running: Sequence[Job]) -> Table:
        """A row for each variant, a column for each seed."""
        seeds = list(dict.fromkeys(job.seed for job in self.jobs))
        finished = sum(job.finished for job in self.jobs)
        table = Table(title=f"{finished} of {len(self.jobs)} trainings{self._time_left(running)}", title_style="bold")
        table.add_column("")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right")
        for variant in dict.fromkeys(job.variant.name for job in self.jobs):
            mine = [job for job in self.jobs if job.variant.name == variant]
            of_seed = {job.seed: job for job in mine}
            cells = [self._cell(of_seed[seed], running) if seed in of_seed else Text("") for seed in seeds]
            table.add_row(Text(mine[0].variant.label), *cells)
        return table

    def _state(self, job: Job, running: Sequence[Job]) -> str:
        if job in running:
            return "training"
        return "finished" if job.finished else "failed" if job.failed else "waiting"

    def _cell(self, job: Job, running: Sequence[Job]) -> Text:
        state = self._state(job, running)
        epoch, _, score = progress_of(job.folder)
        shown = f"  {100 * score:.1f}" if score is not None else ""
        if state == "training":
            return Text(f"{epoch}/{job.training.settings['epochs']}{shown}", style="cyan")
        if state == "finished":
            return Text(f"done{shown}", style="green")
        return Text(state, style="bold red" if state == "failed" else "dim")

    def _line(self, job: Job, state: str) -> str:
        if state == "failed":
            return f"failed, see {job.log}"
        if state == "training":
            return "begins"
        epoch, seconds, score = progress_of(job.folder)
        reached = "" if score is None else f", {100 * score:.1f} in the last"
        return f"{epoch} epochs in {seconds / 60:.1f} min{reached}"

    def _time_left(self, running: Sequence[Job]) -> str:
        """From the seconds that the epochs so far have taken, the same variant's where it has any."""
        seen = {job.folder: progress_of(job.folder) for job in self.jobs}
        of_all = _mean([(seconds, epoch) for epoch, seconds, _ in seen.values()])
        if of_all is None:
            return ""
        left = 0.0
        for job in self.jobs:
            if job.finished or (job.failed and job not in running):
                continue
            own = [seen[other.folder][1::-1] for other in self.jobs if other.variant.name == job.variant.name]
            left += (job.training.settings["epochs"] - seen[job.folder][0]) * (_mean(own) or of_all)
        left /= max(min(self.slots, sum(not job.finished for job in self.jobs)), 1)
        end = time.strftime("%a %H:%M", time.localtime(time.time() + left))
        return f", about {left / 3600:.1f} h left, until {end}" if left > 3600 else f", about {left / 60:.0f} min left"


def progress_of(run: Path) -> tuple[int, float, float | None]:
    """How many epochs a training has behind it, the seconds that they took, and the last one's score."""
    try:
        header, *rows = (run / "results.csv").read_text(encoding="utf-8").splitlines()
        last = dict(zip((name.strip() for name in header.split(",")), map(float, rows[-1].split(",")), strict=True))
        return int(last["epoch"]), last["time"], next((last[name] for name in SCORES if name in last), None)
    except (OSError, ValueError, IndexError, KeyError):
        return 0, 0.0, None


def _mean(taken: Sequence[tuple[float, int]]) -> float | None:
    """Seconds an epoch."""
    epochs = sum(epoch for _, epoch in taken)
    return sum(seconds for seconds, _ in taken) / epochs if epochs else None
