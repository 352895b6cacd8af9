"""Arguments in Ultralytics' grammar: which are recognised, and mistakes in them."""

import logging
import socket
import sys

import pytest
from support import command_line, listing

from yolo_attn.cli import _is_ultralytics_grammar, main
from yolo_attn.model.names import MODEL_YAMLS


@pytest.fixture
def refused(refused, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("ultralytics"), "handlers", [caplog.handler])

    def run(*arguments):
        before = sys.argv[:]
        line = refused(*arguments)
        assert sys.argv == before
        assert "yolo TASK MODE ARGS" not in line + caplog.text
        return line

    return run


THEIRS = [
    *("train model=yolov8n-gam.yaml data=coco", "detect train model=yolov8n-gam.yaml", "train resume model=last.pt"),
    *("mode=train model=yolov8n-gam.yaml", "val model=best.pt", "export model=best.pt format=onnx", "predict --help"),
    *("predict model=best.pt source=images", "settings", "trian"),
]
OURS = [
    *(
        "train --cfg yolov8n-gam.yaml",
        "train --cfg yolov8n-gam.yaml lr0=0.1",
        "train model=yolov8n-gam.yaml --data coco",
    ),
    *("train", "val", "train -h", "layers", "layers all", "doctor", "--version", ""),
]


@pytest.mark.parametrize("arguments", [*THEIRS, *OURS])
def test_which_grammar(arguments):
    assert _is_ultralytics_grammar(arguments.split()) is (arguments in THEIRS)


@pytest.mark.integration
def test_mistakes_are_one_line(refused, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args))
    runs = f"project={tmp_path / 'runs'}"
    assert refused("trian") == "'trian': no such command; did you mean yolo-attn train?"
    assert refused("qwerty").startswith("SyntaxError: 'qwerty' is not a valid YOLO argument.")
    assert refused("nsert", "yolov8n.yaml") == "'nsert': no such command; did you mean yolo-attn insert?"
    near = "yolov8n-gam-head.yaml: no such model; did you mean yolov8n-gam.yaml?"
    assert refused("train", "model=yolov8n-gam-head.yaml", "data=coco8.yaml") == near
    assert "epochz=3: Ultralytics has no such setting; did you mean epochs?" in refused(
        "train", "model=yolov8n-gam.yaml", "epochz=3"
    )
    assert "missing an '=' sign" in refused("train", "epochs")
    assert refused("mode=foo").startswith("ValueError: Invalid 'mode=foo'. Valid modes are")
    assert "'nope.yaml' does not exist" in refused("train", "model=nope.yaml")
    assert "'nope.pt'" in refused("predict", "model=nope.pt")
    assert "nope.jpg does not exist" in refused("predict", "model=yolov8n-gam.yaml", "source=nope.jpg", runs)
    assert "Invalid export format='foo'" in refused("export", "model=yolov8n-gam.yaml", "format=foo")
    assert "'epochs=x'" in refused("train", "model=yolov8n-gam.yaml", "data=nope.yaml", "epochs=x")
    assert "'nope.yaml' does not exist" in refused("train", "model=yolov8n-gam.yaml", "data=nope.yaml", runs)
    assert refused("train", "model=yolov8n-gam.yaml", "data=gone", runs).startswith("gone: no such folder or file")
    for name in ("./my_layers", "my_layers.py", "my_layers/", tmp_path / "my_layers.py", "../my_layers.py", ""):
        assert refused("--import", str(name), "layers").endswith("in this folder or on PYTHONPATH, such as my_layers")
    assert "such as sub.my_layers" in refused("--import", "sub/my_layers.py", "layers")
    (tmp_path / "stops_itself.py").write_text("raise SystemExit(0)")
    assert refused("--import", "stops_itself", "layers") == "--import stops_itself: SystemExit: 0"
    assert "--import nope: ModuleNotFoundError" in refused("--import", "nope", "predict", "model=yolov8n-gam.yaml")
    (tmp_path / "yolov8n-own.yaml").write_text(
        "nc: 1\nbackbone:\n- [-1, 1, GUM, []]\nhead:\n- [[0], 1, Detect, [nc]]\n"
    )
    assert "yolov8n-own.yaml, row 0: unknown layer 'GUM'" in refused("train", "model=yolov8n-own.yaml", "data=x")
    assert asked == []  # of the network, about the missing checkpoint


def test_arguments_are_read_after_sys_argv_was_replaced(refused, monkeypatch):
    """Processes of multiprocessing do so; Ultralytics keeps the list of its import."""
    monkeypatch.setattr(sys, "argv", ["another"])
    assert "'nope.pt'" in refused("predict", "model=nope.pt")


@pytest.mark.integration
def test_an_error_in_a_training_keeps_its_traceback(monkeypatch, tmp_path, small_coco):
    from ultralytics.engine.trainer import BaseTrainer

    def broken(self, *args):
        raise ZeroDivisionError("broken in an epoch")

    monkeypatch.setattr(BaseTrainer, "optimizer_step", broken)
    arguments = ["model=yolov8n-gam.yaml", f"data={small_coco}", "epochs=1", "imgsz=64", "device=cpu", "plots=False"]
    with pytest.raises(ZeroDivisionError):
        main(["train", *arguments, f"project={tmp_path}"])


@pytest.mark.parametrize(
    ("word", "text"), [("help", "yolo TASK MODE ARGS"), ("cfg", "mosaic:"), ("settings", "runs_dir")]
)
def test_help_and_special_commands_are_ultralytics(word, text, capsys, caplog):
    assert main([word]) == 0
    assert text in caplog.text + capsys.readouterr().out


@pytest.mark.integration
def test_every_mode_takes_the_users_own_layer(small_coco, tmp_path):
    """Each command in its own process, on COCO-format data."""
    (tmp_path / "my_layers.py").write_text(
        "import torch, yolo_attn\n\n@yolo_attn.register_layer\nclass Tanh(torch.nn.Tanh):\n"
        "    def __init__(self, channels):\n        super().__init__()\n"
    )
    text = (MODEL_YAMLS / "yolov8-gam.yaml").read_text().replace("GAM, []", "Tanh, []")
    (tmp_path / "yolov8n-own.yaml").write_text(text)
    (tmp_path / "data").symlink_to(small_coco)
    before = listing(small_coco)
    best, small = "model=runs/train/weights/best.pt", ["imgsz=64", "device=cpu", f"project={tmp_path / 'runs'}"]

    def run(*arguments, imports=("--import", "my_layers"), code=0):
        result = command_line(*imports, *arguments, *small, cwd=tmp_path)
        assert result.returncode == code, (arguments, result.stderr)
        return result.stderr if code else result.stdout

    assert "COCO AP50" in run("detect", "train", "model=yolov8n-own.yaml", "data=data", "epochs=1", "batch=8")
    run("val", best, "split=train", "name=val")
    assert "instances_train.json" in (tmp_path / "runs/val/metrics.json").read_text()
    assert "Results saved to" in run("predict", best, "source=data/images/val", "name=predict")
    assert len(list((tmp_path / "runs/predict").glob("*.jpg"))) == 8
    assert "give --import my_layers" in run("val", best, "split=train", imports=(), code=2).splitlines()[-1]
    run("export", best, "format=torchscript")
    assert (tmp_path / "runs/train/weights/best.torchscript").exists()
    assert listing(small_coco) == before
