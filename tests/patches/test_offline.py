"""Under YOLO_OFFLINE nothing is fetched, and nothing that a data YAML would have fetched or run is run."""

import zipfile
from pathlib import Path

import pytest
import requests
import torch
from ultralytics.data import utils
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import downloads

from yolo_attn.cli import main


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    """What was asked of the network; the folder that the test is in is its own."""
    calls = []

    def ask(*args, **kwargs):
        calls.append(args)
        raise requests.ConnectionError("asked")

    monkeypatch.chdir(tmp_path)
    for name in ("get", "head", "request"):
        monkeypatch.setattr(requests, name, ask)
    monkeypatch.setattr(requests.Session, "request", ask)
    return calls


@pytest.mark.parametrize("value", ["1", "true", "on"])
@pytest.mark.parametrize("url", ["https://ultralytics.com/assets/bus.jpg", "http:/example.com/a.zip"])
def test_no_file_is_downloaded(url, value, asked, monkeypatch):
    monkeypatch.setenv("YOLO_OFFLINE", value)
    with pytest.raises(ConnectionError, match="not downloaded, YOLO_OFFLINE is set"):
        downloads.safe_download(url)
    assert downloads.get_github_assets() == ("", [])
    assert not asked


def test_an_archive_that_is_there_is_unpacked(tmp_path):
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("a/b.txt", "c")
    downloads.safe_download("a.zip", dir=tmp_path)
    assert Path("a/b.txt").read_text() == "c"


@pytest.mark.parametrize("name", ["yolov8n.pt", "https://example.com/best.pt"])
def test_no_checkpoint_is_downloaded(name, asked):
    with pytest.raises(ConnectionError, match=r"\.pt: no such file; it is the best.pt or last.pt of a training"):
        downloads.attempt_download_asset(name)
    assert not asked


SCRIPT = "open('ran.txt', 'w')"


@pytest.fixture
def data(small_coco, tmp_path):
    """Data YAMLs in Ultralytics' own format with something under `download`, and a script in it."""

    def make(download, **keys):
        Path("labelled/images/train").mkdir(parents=True, exist_ok=True)
        lines = {"path": tmp_path / "labelled", "train": "images/train", "val": "images/train", **keys, "nc": 1}
        text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value)
        Path("data.yaml").write_text(f"{text}download: {download!r}\n")
        return "data.yaml"

    return make


@pytest.mark.parametrize("download", [SCRIPT, "bash ran.sh", "https://example.com/a.zip"])
def test_no_download_of_a_data_yaml_is_run(download, data, asked):
    Path("ran.sh").write_text("touch ran.txt")
    file = data(download, val="images/absent")
    with pytest.raises(FileNotFoundError, match="images not found"):
        utils.check_det_dataset(file)
    with pytest.raises(FileNotFoundError):
        utils.check_cls_dataset("imagenet")
    assert not asked
    assert not Path("ran.txt").exists()


ABSENT, NO_KEY, NO_VAL = {"test": "images/absent"}, {"test": None}, {"val": "images/absent"}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("command", "keys"),
    [
        *(("val --weights best.pt --data data.yaml --split test --device cpu", keys) for keys in (ABSENT, NO_KEY)),
        *(("val --weights best.pt --split test --device cpu", keys) for keys in (ABSENT, NO_KEY)),
        ("val --weights best.pt --device cpu", NO_VAL),
        *(("val model=best.pt data=data.yaml split=test device=cpu imgsz=64", keys) for keys in (ABSENT, NO_KEY)),
        ("train --cfg yolov8n-gam.yaml --data data.yaml --device cpu", NO_VAL),
        ("train model=yolov8n-gam.yaml data=data.yaml epochs=1 device=cpu imgsz=64", NO_VAL),
        ("train model=yolov8n.yaml data=data.yaml epochs=1 device=cpu imgsz=64", NO_VAL),
    ],
)
def test_commands_run_no_script_of_a_data_yaml(command, keys, data, asked, capsys):
    data(SCRIPT, **keys)
    model = DetectionModel("yolov8n-simam.yaml", nc=1, verbose=False)
    torch.save({"model": model, "train_args": {"imgsz": 64, "data": "data.yaml"}}, "best.pt")
    assert main(command.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("yolo-attn: error")]
    assert "data.yaml" in line
    assert "test" in line or "absent" in line
    assert not asked
    assert not Path("ran.txt").exists()
