"""How far a comparison is, on a terminal and in a log."""

import io
import json

import pytest
from rich.console import Console

from yolo_attn.compare.progress import Progress, progress_of
from yolo_attn.compare.runner import Job
from yolo_attn.compare.study import Variant
from yolo_attn.engine.run import Training

EPOCHS = 10
HEADER = "epoch,time,train/box_loss,metrics/mAP50-95(B),metrics/COCO_AP"


def trained(job, epochs, seconds_each=6.0):
    """Leave what a training has left after so many epochs."""
    job.folder.mkdir(parents=True)
    rows = [f"{n},{n * seconds_each},1.5,0.11,{0.1 * n}" for n in range(1, epochs + 1)]
    (job.folder / "results.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    if epochs == EPOCHS:
        (job.folder / "run.json").write_text("{}")


@pytest.fixture
def jobs(tmp_path):
    variants = [Variant("base", "yolov8n"), Variant("gam-neck", "GAM [x] at neck")]
    told = Training("m.yaml", {"epochs": EPOCHS})
    return [Job(tmp_path, variant, seed, told) for seed in (0, 1) for variant in variants]


def shown(jobs, running, slots=1):
    out = io.StringIO()
    console = Console(file=out, width=100)
    console.print(Progress(jobs, slots, console).table(running))
    return out.getvalue()


def test_the_table_has_a_row_for_each_variant_and_a_column_for_each_seed(jobs):
    trained(jobs[0], EPOCHS)
    trained(jobs[1], 4)
    jobs[2].folder.mkdir(parents=True)
    (jobs[2].folder / "failed.json").write_text(json.dumps({"error": "no"}))
    lines = shown(jobs, [jobs[1]]).splitlines()
    base, gam = (next(line for line in lines if label in line) for label in ("yolov8n", "GAM [x]"))
    assert "done  100.0" in base
    assert "failed" in base
    assert "4/10  40.0" in gam
    assert "waiting" in gam


def test_the_time_left_goes_by_the_seconds_of_an_epoch_and_the_trainings_at_once(jobs):
    assert "left" not in shown(jobs, [jobs[0]])
    trained(jobs[0], EPOCHS)  # a minute
    trained(jobs[1], 5, 12.0)  # a minute for the half of it
    assert "1 of 4 trainings, about 4 min left" in shown(jobs, [jobs[1]])
    assert "about 2 min left" in shown(jobs, [jobs[1]], slots=2)


def test_a_log_gets_a_line_as_each_begins_and_ends_and_none_twice(jobs):
    out = io.StringIO()
    trained(jobs[0], EPOCHS)
    with Progress(jobs, 1, Console(file=out, width=200)) as progress:
        progress([jobs[1]])
        trained(jobs[1], EPOCHS)
        progress([])
        progress([])
    assert out.getvalue().splitlines() == [
        "GAM [x] at neck, seed 0: begins",
        "GAM [x] at neck, seed 0: 10 epochs in 1.0 min, 100.0 in the last",
    ]


@pytest.mark.parametrize("text", ["", HEADER, f"{HEADER}\n1,2", f"{HEADER}\n1,2,x,0,0", "a\n1"])
def test_what_is_not_there_yet_is_no_progress(text, tmp_path):
    assert progress_of(tmp_path) == (0, 0.0, None)
    (tmp_path / "results.csv").write_text(text)
    assert progress_of(tmp_path) == (0, 0.0, None)
