"""The progress of a comparison on a terminal and in a log."""

import io
import json

import pytest
from rich.console import Console

from yolo_attn.compare.execution.progress import Progress, progress_of
from yolo_attn.compare.execution.runner import Job
from yolo_attn.compare.study_folder import Variant
from yolo_attn.engine.api import Training

EPOCHS = 10
HEADER = "epoch,time,train/box_loss,metrics/mAP50-95(B),metrics/COCO_AP"


def trained(job, epochs, seconds_each=6.0):
    """Write a training's files after so many epochs."""
    job.folder.mkdir(parents=True)
    rows = [f"{n},{n * seconds_each},1.5,0.11,{0.1 * n}" for n in range(1, epochs + 1)]
    (job.folder / "results.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    if epochs == EPOCHS:
        record = {"variant": job.variant.name, "seed": job.seed, "epochs": epochs, "seconds": epochs * seconds_each}
        (job.folder / "run.json").write_text(json.dumps(record))
        (job.folder / "metrics.json").write_text('{"AP": 0.5}')


def failed(job):
    """Write the files of a failed training."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "failed.json").write_text(json.dumps({"error": "no"}))


@pytest.fixture
def jobs(tmp_path):
    variants = [Variant("base", "yolov8n"), Variant("gam-neck", "GAM [x] at neck")]
    training = Training("m.yaml", {"epochs": EPOCHS})
    return [Job(tmp_path, variant, seed, training) for seed in (0, 1) for variant in variants]


def shown(jobs, running, waiting, slots=1):
    out = io.StringIO()
    console = Console(file=out, width=100)
    console.print(Progress(jobs, slots, console).table(running, waiting))
    return out.getvalue()


def lines(jobs, *looks):
    """The log's lines: before each update something happens, then some trainings run and some wait."""
    out = io.StringIO()
    with Progress(jobs, 1, Console(file=out, width=30)) as progress:
        for happens, running, waiting in looks:
            happens()
            progress(running, waiting)
    return out.getvalue().splitlines()


def nothing():
    pass


def test_the_table_has_a_row_for_each_variant_and_a_column_for_each_seed(jobs):
    trained(jobs[0], EPOCHS)
    trained(jobs[1], 4)
    out = io.StringIO()
    progress = Progress(jobs, 1, Console(file=out, width=100))
    failed(jobs[2])
    progress([jobs[1]], [jobs[3]])
    progress.console.print(progress.table([jobs[1]], [jobs[3]]))
    base, gam = (
        [line for line in out.getvalue().splitlines() if label in line][-1] for label in ("yolov8n", "GAM [x]")
    )
    assert "done  1.000" in base
    assert "failed" in base
    assert "4/10  0.400" in gam
    assert "waiting" in gam
    assert "1 of 4 trainings" in out.getvalue()


def test_the_time_left_follows_the_seconds_of_an_epoch_and_the_trainings_at_once(jobs):
    assert "left" not in shown(jobs, [jobs[0]], jobs[1:])
    trained(jobs[0], EPOCHS)  # a minute
    trained(jobs[1], 5, 12.0)  # a minute for the half of it
    assert "1 of 4 trainings, about 4 min left" in shown(jobs, [jobs[1]], jobs[2:])
    assert "about 2 min left" in shown(jobs, [jobs[1]], jobs[2:], slots=2)


def test_a_training_that_starts_over_has_all_its_epochs_left(jobs):
    trained(jobs[0], EPOCHS)  # a minute
    trained(jobs[2], 9, 600.0)  # cut off
    failed(jobs[3])
    assert "1 of 4 trainings, about 3 min left" in shown(jobs, [], jobs[1:])
    assert "failed" not in shown(jobs, [], jobs[1:])


def test_a_log_gets_one_line_for_each_start_and_end(jobs):
    trained(jobs[0], EPOCHS)
    looks = [
        (nothing, [jobs[1]], jobs[2:]),
        (lambda: trained(jobs[1], EPOCHS), [], jobs[2:]),
        (nothing, [], jobs[2:]),
    ]
    assert lines(jobs, *looks) == [
        "GAM [x] at neck, seed 0: starts",
        "GAM [x] at neck, seed 0: 10 epochs in 1.0 min, last score 1.000",
    ]


def test_each_failure_is_logged_once(jobs):
    failed(jobs[1])
    looks = [
        (nothing, [jobs[0]], [jobs[1]]),
        (lambda: trained(jobs[0], EPOCHS), [jobs[1]], []),
        (nothing, [], []),
        (nothing, [], []),
    ]
    assert lines(jobs[:2], *looks) == [
        "yolov8n, seed 0: starts",
        "yolov8n, seed 0: 10 epochs in 1.0 min, last score 1.000",
        "GAM [x] at neck, seed 0: starts",
        f"GAM [x] at neck, seed 0: failed, see {jobs[1].log}",
    ]


@pytest.mark.parametrize("text", ["", HEADER, f"{HEADER}\n1,2", f"{HEADER}\n1,2,x,0,0", "a\n1"])
def test_missing_and_partial_results_are_no_progress(text, tmp_path):
    assert progress_of(tmp_path) == (0, 0.0, None)
    (tmp_path / "results.csv").write_text(text)
    assert progress_of(tmp_path) == (0, 0.0, None)
