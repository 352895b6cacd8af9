"""A whole comparison of classifiers: trained, completed, reported; what it refuses."""

import json
import re

import numpy as np
import pytest
from pages import Page
from PIL import Image
from support import TINY_CLASSIFIER, contents

from yolo_attn.cli import main
from yolo_attn.engine.preflight.checks import read_checkpoint

COLOURS = {"a, b": (200, 40, 40), "<i>$c$": (40, 200, 40), "d": (40, 40, 200)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Noise with a colour for each class, and a class without validation images."""
    home, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 5)):
        for name, colour in {**COLOURS, "rare": (90, 90, 90)}.items():
            for n in range(number if name != "rare" or split == "train" else 0):
                file = home / split / name / f"{n}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(rng.normal(colour, 90, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(file)
    return home


def command(data, output, *more, layers="SimAM", seeds="0,1"):
    given = ["--base", TINY_CLASSIFIER, "--layers", layers, "--at", "backbone", "--seeds", seeds, "--data", data]
    sizes = ["--epochs", "1", "--imgsz", "32", "--batch", "8", "--device", "cpu", "--output", output]
    return ["compare", *map(str, [*given, *sizes, "workers=0", "plots=False", *more])]


@pytest.fixture(scope="module")
def compared(pictures, tmp_path_factory):
    output, before = tmp_path_factory.mktemp("compared") / "study", contents(pictures)
    assert main(command(pictures, output)) == 0
    assert contents(pictures) == before
    return output


@pytest.mark.integration
def test_a_comparison_of_classifiers(compared, pictures, capsys):
    text = (compared / "report.html").read_text()
    page = Page(text)
    sections = re.findall(r'<section id="(\w+)">', text)
    assert {"verdicts", "scores", "pairs", "costs", "charts", "confusions", "classes", "trainings"} <= set(sections)
    runs = [compared / f"runs/{name}/seed-{seed}" for name in ("base", "simam-backbone") for seed in (0, 1)]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    of_runs = [row[2] for row in page.tables[-1][1:]]
    assert of_runs == [f"{100 * each['accuracy_top1']:.2f}" for each in metrics]
    manifest = json.loads((compared / "manifest.json").read_text())
    assert (manifest["data"]["path"], manifest["data"]["kind"]) == (str(pictures), "classify")
    assert not (compared / "ground_truth.json").exists()
    assert "15 validation images" in page.text
    rows = {row[0]: row for table in page.tables if table[0][0] == "class" and "images" in table[0][1] for row in table}
    assert {*COLOURS, "rare"} <= set(rows)
    assert rows["rare"][1:] == ["0", "–", "–"]
    found = [{each["image"]: each for each in json.loads((run / "predictions.json").read_text())} for run in runs]
    pairs = next(table for table in page.tables if "p, McNemar" in table[0])
    for row, base, variant in zip(pairs[1:], found[:2], found[2:], strict=True):
        right = [{i for i, each in of.items() if each["top"][0] == each["class"]} for of in (base, variant)]
        assert row[2:4] == [str(len(right[1] - right[0])), str(len(right[0] - right[1]))]
    assert not re.search(r"<i>", text)
    assert main(["compare", "--report-only", "--output", str(compared)]) == 0
    assert (compared / "report.html").read_text() == text
    assert "top-1 accuracy, points of 100" in capsys.readouterr().out


@pytest.mark.integration
def test_the_same_command_trains_nothing_again(compared, pictures, capfd):
    before = {file: file.stat().st_mtime_ns for file in compared.glob("runs/*/*/run.json")}
    assert main(command(pictures, compared)) == 0
    assert {file: file.stat().st_mtime_ns for file in compared.glob("runs/*/*/run.json")} == before
    assert "starts" not in capfd.readouterr().out


@pytest.mark.integration
def test_stretched_images_are_another_budget(compared, pictures, capfd):
    assert main(command(pictures, compared, "--stretch")) == 2
    assert "manifest.json: stretch was False and is True now; choose another --output" in capfd.readouterr().err


@pytest.mark.integration
def test_stretched_images_are_those_of_all_trainings(pictures, tmp_path):
    """Their checkpoints say so, and the models that they are made of do not."""
    assert main(command(pictures, tmp_path / "study", "--stretch", seeds="0")) == 0
    for name in ("base", "simam-backbone"):
        model, *_ = read_checkpoint(str(tmp_path / f"study/runs/{name}/seed-0/weights/best.pt"))
        assert model.yaml["stretch"] is True
    assert "stretch" not in (tmp_path / "study/models/tiny-cls.yaml").read_text()


@pytest.mark.integration
def test_other_pictures_are_another_budget(compared, pictures, tmp_path, capfd):
    manifest = json.loads((compared / "manifest.json").read_text())
    manifest["data"]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main(command(pictures, tmp_path)) == 2
    assert f"data was {pictures} (000000000000) and is {pictures} (" in capfd.readouterr().err


def test_a_folder_without_a_split_is_refused(tmp_path, capfd):
    (tmp_path / "data/train/a").mkdir(parents=True)
    assert main(command(tmp_path / "data", tmp_path / "study")) == 2
    assert "no folder 'val' in it" in capfd.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_comparison_among_its_pictures_is_refused(pictures, capfd):
    before = contents(pictures)
    assert main(command(pictures, pictures / "study")) == 2
    assert "it is among the data" in capfd.readouterr().err
    assert contents(pictures) == before
