"""Attention maps of classifiers: predictions beside the image, true classes by folders, gates over the input."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from pages import Page
from PIL import Image
from support import contents, enliven, save_noise
from ultralytics import YOLO
from ultralytics.data.augment import classify_transforms
from ultralytics.nn.tasks import ClassificationModel

from yolo_attn.cli import main
from yolo_attn.engine.tasks import task_of
from yolo_attn.maps import attention_maps
from yolo_attn.maps.truth import class_of
from yolo_attn.maps.views import Viewer

NAMES = {0: "cat", 1: "<b>dog</b> $x$", 2: "owl", 3: "n01440764", 4: "fox", 5: "hen"}

ROWS = {
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "SimAM", []]],
    "head": [[-1, 1, "Classify", ["nc"]]],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Checkpoints of a small classifier by name: one crops its images, one stretches them."""
    home, made = tmp_path_factory.mktemp("weights"), {}
    for name, stretch in (("crop", False), ("stretch", True)):
        torch.manual_seed(0)
        cfg = {"nc": len(NAMES), **ROWS, **({"stretch": True} if stretch else {})}
        model = enliven(ClassificationModel(cfg, verbose=False))
        model.names, model.transforms = NAMES, classify_transforms(64)  # as a training leaves them
        made[name] = str(home / f"{name}.pt")
        torch.save({"model": model, "train_args": {"imgsz": 64, "task": "classify"}}, made[name])
    return made


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        for n, name in enumerate(("cat", "<b>dog<", "owl", "unknown")):
            save_noise(tmp_path / "set" / split / name / f"{n}.png", (96, 48))
    (tmp_path / "set/val/<b>dog<").rename(tmp_path / "set/val/fox")
    save_noise(tmp_path / "set/val/hen/more/9.png", (40, 64))
    return tmp_path / "set"


@pytest.fixture
def undrawn(monkeypatch):
    for name in ("draw_gate", "draw_statistics"):
        monkeypatch.setattr(attention_maps, name, lambda *given: given[-1].touch())


def run(weights, out, *more):
    return main(["attention-maps", "--weights", weights, "--output", str(out), "--device", "cpu", *map(str, more)])


def captions(out):
    """The captions of each image, by its title."""
    text = (out / "index.html").read_text()
    parts = re.findall(r"<h2>(.*?)</h2>(.*?)(?=<h2>|</body>)", text, re.DOTALL)
    return {Page(f"<p>{t}</p>").text: re.findall(r"<figcaption>(.*?)</figcaption>", part) for t, part in parts}


def expected(weights, file):
    """The best class and its probability, as Ultralytics predicts."""
    (found,) = YOLO(weights).predict(file, imgsz=64, device="cpu", verbose=False)
    return NAMES[found.probs.top1], f"{100 * float(found.probs.top1conf):.1f}\u00a0%"


@pytest.mark.parametrize("kind", ["crop", "stretch"])
@pytest.mark.usefixtures("undrawn")
def test_the_prediction_stands_beside_the_true_class(kind, weights, data, tmp_path):
    before = contents(data)
    base = weights["stretch" if kind == "crop" else "crop"]
    assert run(weights[kind], tmp_path / "out", "--data", data, "--base", base) == 0
    assert contents(data) == before
    classes = {"cat/0.png": "cat", "fox/1.png": "fox", "hen/more/9.png": "hen", "owl/2.png": "owl"}
    found = captions(tmp_path / "out")
    assert set(found) == {*classes, "unknown/3.png"}
    for title, (picture, prediction, other, over) in found.items():
        actual = classes.get(title)
        assert picture == (f"picture, class {actual}" if actual else "picture")
        for shown, what, file in ((prediction, "prediction", weights[kind]), (other, "base", base)):
            name, probability = expected(file, data / "val" / title)
            right = "" if actual is None else ", right" if name == actual else ", wrong"
            name = name.replace("<", "&lt;").replace(">", "&gt;")
            assert shown == f"{what}: {file.split('/')[-1]}, {name} {probability}{right}"
        assert over == "row 1 SimAM: mean gate over the image"
    page = (tmp_path / "out/index.html").read_text()
    assert "<b>" not in page
    assert str(data) not in page
    assert json.loads((tmp_path / "out/gates.json").read_text())["source"] == ["set, val"]
    assert {f.name for f in (tmp_path / "out").glob("001-*")} == {
        *("001-0-picture.png", "001-0-prediction.png", "001-0-base.png", "001-0-row-1-SimAM-over.png"),
        "001-0-row-1-SimAM.png",
    }


@pytest.mark.usefixtures("undrawn")
def test_folders_of_sources_name_the_true_class(weights, data, tmp_path):
    for source, classes in ((data / "val", 4), (data / "val/cat", 1), (data / "val/cat/0.png", 1)):
        assert run(weights["crop"], tmp_path / "out", "--source", source, "--force") == 0
        shown = [line for lines in captions(tmp_path / "out").values() for line in lines]
        assert sum(line.startswith("picture, class ") for line in shown) == classes
        assert sum(line.endswith((", right", ", wrong")) for line in shown) == classes
    flat = tmp_path / "flat"
    shutil.copytree(data / "val/cat", flat)
    assert run(weights["crop"], tmp_path / "out", "--source", flat, "--force") == 0
    assert next(iter(captions(tmp_path / "out").values()))[0] == "picture"


def test_the_class_is_that_of_the_nearest_folder(tmp_path):
    def named(path, *sources):
        return class_of(tmp_path / path, [tmp_path / source for source in sources], NAMES)

    assert named("set/val/owl/1.png", "set") == "owl"
    assert named("set/val/owl/cat/1.png", "set") == "cat"
    assert named("set/owl/more/1.png", "set") == "owl"
    assert named("owl/set/1.png", "owl/set") is None  # a folder above the source says nothing of its images
    assert named("owl/1.png", "owl/1.png") == "owl"
    assert named("set/n01440764/1.png", "set") == "n01440764"
    assert named("set/n0123/1.png", "set") is None
    assert class_of(tmp_path / "n01440764/1.png", [tmp_path], {0: "tench"}) == "tench"


@pytest.mark.parametrize("kind", ["crop", "stretch"])
def test_gates_lie_over_the_image_as_the_model_sees_it(kind, weights, tmp_path):
    """The middle square of a crop, the whole image of a stretch."""
    size = (128, 64)
    pixels = np.zeros((*size[::-1], 3), np.uint8)
    pixels[:, :32] = 255  # of the left quarter a crop sees nothing
    model = YOLO(weights[kind]).model
    viewer = Viewer(model, task_of("Classify").predictor, {"imgsz": 64, "device": "cpu"})
    result, gates = viewer.view(pixels)
    grey, gate = gates["row 1 SimAM"]
    image = Image.fromarray(pixels)
    if kind == "stretch":
        seen = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    else:
        seen = np.asarray(image.crop((32, 0, 96, 64)))
    assert grey == pytest.approx(seen.mean(2) / 255, abs=0.02)
    assert grey.max() == (1 if kind == "stretch" else 0)
    assert gate.mean.shape == (32, 32)
    assert result.probs.data.sum() == pytest.approx(1, abs=1e-4)


def test_predictions_are_drawn(weights, data, tmp_path):
    """Names of any letters and lengths; the bar of the true class has its own colour."""
    assert run(weights["crop"], tmp_path / "out", "--source", data / "val", "--pictures", 1) == 0
    with Image.open(tmp_path / "out/001-0-prediction.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (320, 320, 3)
    assert pixels.std() > 10
    blue, green = ((pixels == colour).all(2).any() for colour in ((0x31, 0x68, 0x8E), (0x35, 0xB7, 0x79)))
    name, _ = expected(weights["crop"], data / "val/cat/0.png")
    assert blue or name == "cat"
    assert green or name != "cat"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data", "{data}", "--split", "test"], "--data {data}: no folder 'test' in it; expected a folder for each"),
        (["--data", "{data}/nothing"], "--data {data}/nothing: no folder 'val' in it"),
        (["--data", "{data}", "--output", "{data}/maps"], "--output {data}/maps: it is among the data"),
        (["--data", "{data}/empty"], "--data {data}/empty/val: no image there"),
    ],
)
def test_mistakes(given, message, weights, data, tmp_path, capsys):
    (data / "empty/val").mkdir(parents=True)
    words = [word.format(data=data) for word in given]
    before = contents(tmp_path)
    output = [] if "--output" in given else ["--output", str(tmp_path / "out")]
    assert main(["attention-maps", "--weights", weights["crop"], "--device", "cpu", *output, *words]) == 2
    assert message.format(data=data) in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.integration
def test_towernet_with_attention(tmp_path, data):
    """Its images are stretched, as its YAML says, and all of its four layers are drawn."""
    torch.manual_seed(0)
    model = enliven(ClassificationModel("towernet-cls-simam.yaml", nc=len(NAMES), verbose=False), 128)
    model.names = NAMES
    torch.save({"model": model, "train_args": {"imgsz": 128}}, tmp_path / "best.pt")
    assert run(str(tmp_path / "best.pt"), tmp_path / "out", "--data", data, "--pictures", 1) == 0
    (shown,) = captions(tmp_path / "out").values()
    assert [line.partition(":")[0] for line in shown[2:]] == [f"row {n} SimAM" for n in (6, 9, 12, 15)]
    assert len(json.loads((tmp_path / "out/gates.json").read_text())["layers"]) == 4
