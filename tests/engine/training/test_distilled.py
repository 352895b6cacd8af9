"""`distill_model=`, Ultralytics' own distillation, where the student has attention."""

import pytest
import torch
from support import QUICK, TINY_GAM, results_rows, run_python, train_and_cut
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

import yolo_attn
from yolo_attn.cli import main
from yolo_attn.errors import UserError

pytestmark = pytest.mark.skipif(
    "distill_model" not in DEFAULT_CFG_DICT, reason="this Ultralytics has no setting distill_model"
)
STUDENT = "yolov8n-nam.yaml"
SMALL = {"imgsz": 32, "batch": 8, "device": "cpu", "plots": False, "workers": 0}


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.mark.integration
def test_student_alone_is_reported_and_saved_and_a_cut_training_goes_on(trained, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    teacher = tmp_path / "teacher.pt"
    teacher.write_bytes((trained.folder / "weights/best.pt").read_bytes())
    settings = {**SMALL, "data": str(trained.data), "epochs": 2, "project": str(tmp_path), "name": "run"}
    train_and_cut(yolo_attn.DetectionTrainer, "save_model", model=STUDENT, distill_model=str(teacher), **settings)
    run = tmp_path / "run"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with caplog.at_level("INFO", logger="ultralytics"):
        assert main(["train", "--resume", str(run / "weights/last.pt")]) == 0
    rows = results_rows(run)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(row["train/dis_loss"] > 0 and row["train/box_loss"] > 0 for row in rows)
    student = YOLO(run / "weights/best.pt").model
    assert type(student) is tasks.DetectionModel
    assert any("NAM" in type(row).__name__ for row in student.model)
    size = sum(p.numel() for p in tasks.DetectionModel(STUDENT, nc=3, verbose=False).parameters())
    assert f"parameters           {size:,}\n" in caplog.text
    assert yolo_attn.load_safe(run / "weights/best.pt").yaml == student.yaml


@pytest.mark.integration
def test_command_with_a_penalty_names_its_teacher_by_a_whole_path(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.folder)
    arguments = ["--cfg", STUDENT, "--data", trained.data, "--epochs", 1, *QUICK, "--nam-sparsity", 0.01]
    more = ["--project", tmp_path, "--name", "run", "distill_model=weights/best.pt", "plots=False"]
    assert main(["train", *map(str, [*arguments, *more])]) == 0
    (row,) = results_rows(tmp_path / "run")
    assert row["train/dis_loss"] > 0
    assert row["train/nam_loss"] > 0
    assert f"distill_model: {trained.folder / 'weights/best.pt'}" in (tmp_path / "run/args.yaml").read_text()


def test_mistakes_are_one_line_and_nothing_of_a_teacher_runs(refusal, trained, tmp_path):
    def mistake(teacher, *more, cfg=STUDENT):
        return refusal(
            "train", "--cfg", cfg, "--data", trained.data, *QUICK, f"distill_model={teacher}", "--epochs", "1", *more
        )

    assert "distill_model gone.pt: no such file" in mistake("gone.pt")
    torch.save({"model": Trap(str(tmp_path / "was here"))}, tmp_path / "trap.pt")
    assert "trap.pt: " in mistake(tmp_path / "trap.pt")
    assert not (tmp_path / "was here").exists()
    best = trained.folder / "weights/best.pt"
    assert f"{TINY_GAM}: its head reads [-1], and distillation takes numbers" in mistake(best, cfg=TINY_GAM)
    with pytest.raises(UserError, match=r"distill_model gone.pt: no such file"):
        YOLO(STUDENT).train(data=str(trained.data), distill_model="gone.pt", **SMALL)


@pytest.mark.integration
def test_old_releases_name_the_setting(on_oldest, small_coco, tmp_path):
    code = f"from yolo_attn.cli import main; exit(main(['train', '--cfg', {STUDENT!r}, 'distill_model=x.pt']))"
    assert "Ultralytics has no such setting" in run_python(code, tmp_path, ends=2).stderr
