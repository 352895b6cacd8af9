"""Commands whose standard streams are closed, full, without a reader, or of a poor encoding."""

import os
import subprocess
import sys

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

pytestmark = pytest.mark.integration


def shell(command, cwd, **env):
    """Run a line with `yolo-attn` in a shell; the exit code is the command's, not the pipe's."""
    line = command.replace("yolo-attn", f"{sys.executable} -m yolo_attn")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )


@pytest.fixture
def best(small_coco, tmp_path):
    model = DetectionModel("yolov8n-simam.yaml", nc=3, verbose=False)
    model.names = {0: "circle", 1: "square", 2: "star"}
    torch.save({"model": model, "train_args": {"imgsz": 64}}, tmp_path / "best.pt")
    (tmp_path / "круг").symlink_to(small_coco)
    return tmp_path


VAL = "yolo-attn val --weights best.pt --data круг --name val --imgsz 64 --batch 8 --device cpu"
TRAIN = "yolo-attn train --cfg yolov8n-simam.yaml --data круг --epochs 1 --imgsz 64 --batch 8 --device cpu plots=False"

GONE = {
    "a reader that leaves": "{} | true",
    "a reader of one line": "{} 2>&1 | head -1 > /dev/null",
    "closed output": "{} >&-",
    "everything closed": "{} <&- >&- 2>&-",
}


@pytest.mark.parametrize("way", GONE.values(), ids=GONE)
def test_output_without_a_reader_is_no_error(way, tmp_path):
    result = shell(way.format("yolo-attn doctor --help"), tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["yolo-attn doctor --help", "yolo-attn --version"])
def test_output_that_cannot_be_written_is_reported_in_one_line(command, tmp_path):
    result = shell(f"{command} > /dev/full", tmp_path)
    assert result.returncode == 1
    assert result.stderr == "yolo-attn: error: output is missing: No space left on device\n"


def test_an_error_that_cannot_be_reported_keeps_its_exit_code(tmp_path):
    assert shell("yolo-attn > /dev/full 2>&1", tmp_path).returncode == 2
    assert shell("yolo-attn 2>&-", tmp_path).returncode == 2


POOR = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C"}]


@pytest.mark.parametrize("variables", POOR, ids=["PYTHONIOENCODING", "no UTF-8 anywhere", "LC_ALL"])
def test_characters_that_the_encoding_lacks_are_replaced(variables, tmp_path):
    result = shell("yolo-attn train --help", tmp_path, **variables)
    assert (result.returncode, result.stderr) == (0, "")
    shown = "P?(?|?| + ?|?|)" if len(variables) != 1 or "PYTHONIOENCODING" in variables else "P·(Σ|γ| + Σ|λ|)"
    assert f"NAM's penalty {shown}, such as" in result.stdout


def test_a_validation_finishes_when_its_reader_leaves(best):
    result = shell(f"{VAL} 2>&1 | head -1", best, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1
    assert (best / "runs/detect/val/metrics.json").exists()


def test_a_table_on_a_closed_output_is_no_error(tmp_path):
    result = shell("yolo-attn layers >&-", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("way", [*GONE.values(), "{}"], ids=[*GONE, "plain"])
@pytest.mark.parametrize("variables", POOR, ids=["PYTHONIOENCODING", "no UTF-8 anywhere", "LC_ALL"])
def test_trainings_and_validations_finish_with_any_output(best, way, variables):
    for command, file in ((TRAIN, "train/results.csv"), (VAL, "val/predictions.json")):
        result = shell(way.format(command), best, **variables)
        assert result.returncode == 0, result.stderr
        assert "Logging error" not in result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr
        assert (best / "runs/detect" / file).stat().st_size
