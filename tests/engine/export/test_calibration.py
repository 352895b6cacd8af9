"""Files of int8: calibrated on the images of the data that is named, or that trained the model, and on no others."""

import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import TINY_CLASSIFIER, TINY_GAM, listing, save_noise, txt_data
from ultralytics import YOLO
from ultralytics.engine import exporter as ultralytics_exporter

from yolo_attn.cli import main
from yolo_attn.compat import INT8
from yolo_attn.errors import UserError


@pytest.fixture
def seen(monkeypatch):
    """The images, (3, H, W) in 0 … 1, on which OpenVINO files are calibrated here, in place of by NNCF."""
    images = []

    def quantize(model, calibration_dataset, **_):
        loader, transform = calibration_dataset
        for batch in loader:
            images.extend(transform(batch))
        return model

    class Data(tuple):
        def get_length(self):
            return len(self[0])

    nncf = types.ModuleType("nncf")
    nncf.__spec__ = types.SimpleNamespace(name="nncf")
    nncf.Dataset = lambda *parts: Data(parts)
    nncf.quantize = quantize
    nncf.IgnoredScope = lambda **_: None
    nncf.QuantizationPreset = nncf.ModelType = types.SimpleNamespace(MIXED=0, TRANSFORMER=0)
    monkeypatch.setitem(sys.modules, "nncf", nncf)
    import openvino

    monkeypatch.setattr(openvino, "runtime", openvino, raising=False)  # early 8.3 saves by its former name
    return images


def letterboxed(file, height, width):
    """An image as OpenCV alone brings it into a frame: whole, centred, on grey."""
    image = cv2.imread(str(file))
    scale = min(height / image.shape[0], width / image.shape[1])
    size = [round(side * scale) for side in image.shape[1::-1]]
    frame = np.full((height, width, 3), 114, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = cv2.resize(image, size)
    return frame[..., ::-1].transpose(2, 0, 1) / 255


def matched(images, files, height, width):
    """The files that were seen, each image's by the smallest distance; none is far from its file."""
    frames = np.stack([letterboxed(file, height, width) for file in files])
    found = []
    for image in images:
        distance = np.abs(frames - image).mean((1, 2, 3))
        assert distance.min() < 0.03
        found.append(files[distance.argmin()].name)
    return sorted(found)


def names(files):
    return sorted(file.name for file in files)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("model", "size"),
    [
        (TINY_GAM, (64, 64)),
        (TINY_GAM, (64, 96)),
        ("yolov8n-seg-gam.yaml", (64, 64)),
        ("yolov8n-pose-gam.yaml", (64, 64)),
    ],
    ids=["detect", "wide", "segment", "pose"],
)
def test_real_images_reach_the_calibration(model, size, seen, small_coco, small_poses, tmp_path, monkeypatch):
    data = small_poses if "pose" in model else small_coco
    before = listing(data)
    monkeypatch.chdir(tmp_path)
    for split in ("val", "train"):
        YOLO(model).export(format="openvino", imgsz=list(size), data=str(data), split=split, **INT8)
        files = sorted((data / "images" / split).iterdir())
        assert matched(seen, files, *size) == names(files)
        seen.clear()
    assert listing(data) == before


@pytest.mark.integration
@pytest.mark.skipif(
    not hasattr(ultralytics_exporter, "ClassificationDataset"), reason="this Ultralytics reads no class folders here"
)
@pytest.mark.parametrize("stretch", [False, True])
def test_a_classifiers_folder_reaches_the_calibration(stretch, seen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        for split in ("train", "val"):
            for n in range(3):
                save_noise(tmp_path / "set" / split / name / f"{n}.png", (90, 60))
    (tmp_path / "set/val/dog/torn.png").write_bytes(b"")
    before = listing(tmp_path / "set")
    model = YOLO(TINY_CLASSIFIER)
    model.model.names, model.model.yaml["stretch"] = {0: "cat", 1: "dog", 2: "owl"}, stretch
    model.export(format="openvino", imgsz=[32, 32], data=str(tmp_path / "set"), **INT8)
    assert listing(tmp_path / "set") == before
    files = sorted((tmp_path / "set/val").glob("*/[0-9].png"))
    whole = [cv2.resize(cv2.imread(str(file)), (32, 32), interpolation=cv2.INTER_AREA) for file in files]
    found = [min(np.abs(one[..., ::-1].transpose(2, 0, 1) / 255 - image).mean() for one in whole) for image in seen]
    assert len(found) == len(files) == 6
    assert all(distance < 0.05 for distance in found) == stretch


@pytest.mark.integration
def test_txt_data_and_the_data_of_the_checkpoint(seen, small_coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    described = txt_data(tmp_path / "txt")
    model = YOLO(TINY_GAM)
    with pytest.raises(UserError, match="does not name its training data; give --data, or data= in Python"):
        model.export(format="openvino", imgsz=32, **INT8)
    model.model.args["data"] = str(described)
    for more in ({"data": str(described)}, {}):
        model.export(format="openvino", imgsz=32, **INT8, **more)
        files = sorted((tmp_path / "txt/images/val").iterdir())
        assert len(matched(seen, files, 32, 32)) == len(files)  # of the same noise
        seen.clear()
    model.model.args["data"] = str(small_coco)
    model.export(format="openvino", imgsz=32, **INT8)
    assert len(seen) == 8
    for gone in ("coco8.yaml", str(tmp_path / "gone")):
        model.model.args["data"] = gone
        with pytest.raises(UserError, match=r"^\S+: [^\n]+$"):
            model.export(format="openvino", imgsz=32, **INT8)


@pytest.mark.integration
@pytest.mark.parametrize("style", ["options", "settings", "grammar"])
def test_command_calibrates_and_takes_height_and_width(style, seen, trained, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    weights = Path(tmp_path / "best.pt")
    weights.write_bytes((trained.folder / "weights/best.pt").read_bytes())
    arguments = {
        "options": ["--weights", weights, "--format", "openvino", "--imgsz", "64,96", "--int8", "--data", trained.data],
        "settings": ["--weights", weights, "format=openvino", "imgsz=64,96", "int8=True"],
        "grammar": [f"model={weights}", "format=openvino", "imgsz=64,96", "int8=True"],
    }[style]
    with caplog.at_level("INFO", logger="ultralytics"):
        assert main(["export", *map(str, arguments)]) == 0
    files = sorted((trained.data / "images/val").iterdir())
    assert matched(seen, files, 64, 96) == names(files)
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == ["best_int8_openvino_model"]
    if style != "grammar":
        assert f"calibrated on       val of {trained.data}" in caplog.text
        assert "input 1×3×64×96" in caplog.text


def test_mistakes_are_one_line(refusal, trained, seen):
    def mistake(*arguments, fmt="openvino"):
        return refusal("export", "--weights", trained.folder / "weights/best.pt", "--format", fmt, *arguments)

    assert "gone: no such" in mistake("--int8", "--data", "gone")
    assert "gone.yaml: not usable for 'val'" in mistake("--int8", "--data", "gone.yaml")
    assert "only files of int8 are calibrated on data; give --int8 too" in mistake("--data", trained.data)
    assert "only files of int8 are calibrated on data; give --int8 too" in mistake("--split", "train")
    assert "--int8 and --half exclude each other" in mistake("--int8", "--half")
    assert "makes no torchscript files of int8" in mistake("--int8", fmt="torchscript")
    assert "expected an int above 0, or height,width such as 320,640, found '320,0'" in mistake("--imgsz", "320,0")
    assert "instances_test" in mistake("--int8", "--data", trained.data, "--split", "test")


def test_a_package_that_int8_needs_is_named(refusal, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    line = refusal("export", "--weights", trained.folder / "weights/best.pt", "--format", "openvino", "--int8")
    assert "--format openvino --int8 needs nncf, not installed here: pip install nncf" in line


@pytest.mark.integration
def test_onnx_file_of_int8_finds_what_the_model_finds(trained, tmp_path, monkeypatch):
    """Calibrated for real, by onnxruntime; on noise its scores would be far off."""
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "best.pt"
    weights.write_bytes((trained.folder / "weights/best.pt").read_bytes())
    assert main(["export", "--weights", str(weights), "--format", "onnx", "--int8", "--imgsz", "64"]) == 0
    (file,) = tmp_path.glob("*.onnx")
    assert file.name == "best_int8.onnx"
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = np.stack([letterboxed(f, 64, 64) for f in sorted((trained.data / "images/val").iterdir())])
    x = images.astype(np.float32)
    found = np.concatenate([session.run(None, {session.get_inputs()[0].name: one[None]})[0] for one in x])
    import torch

    with torch.inference_mode():
        expected = YOLO(weights).model.float().eval()(torch.from_numpy(x))[0].numpy()
    assert np.abs(found[:, :4] - expected[:, :4]).mean() < 3
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 0.05
