"""`yolo-attn attention-maps`: images, page and numbers of checkpoints of every task; mistakes."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from pages import Page
from PIL import Image
from support import contents, enliven, randomise, save_noise
from tiers import later
from ultralytics.nn import tasks

from yolo_attn.cli import main
from yolo_attn.gates.watch import attention_layers, measure_gates, watching
from yolo_attn.maps import attention_maps
from yolo_attn.maps.views import GateView

NAMES = {0: "triangle", 1: "$круг$", 2: "star"}


ROWS = [
    [-1, 1, "Conv", [16, 3, 2]],
    [-1, 1, "Conv", [32, 3, 2]],
    [-1, 1, "C2f_NAM", [32, True]],
    [-1, 1, "Conv", [32, 3, 2]],
    [-1, 1, "CBAM", []],
]
SMALL = {"nc": 3, "backbone": ROWS, "head": [[[2, 4], 1, "Detect", ["nc"]]]}


def save_model(file, cfg, task="Detection"):
    """A checkpoint of a model whose output depends on the image."""
    torch.manual_seed(0)
    alive = randomise if task.startswith("RTDETR") else enliven  # early 8.3 trains RT-DETR with labels alone
    model = alive(getattr(tasks, f"{task}Model")(cfg, nc=3, verbose=False))
    model.names = NAMES
    torch.save({"model": model, "train_args": {"imgsz": 64}}, file)
    return str(file)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("weights") / "best.pt", SMALL)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    rows = [*ROWS[:2], [-1, 1, "C2f", [32, True]], ROWS[3], ROWS[3]]
    return save_model(tmp_path_factory.mktemp("weights") / "base.pt", {**SMALL, "backbone": rows})


@pytest.fixture
def source(tmp_path):
    """Two images, one in a folder of its own, whose names need escapes in HTML and file names."""
    folder = tmp_path / "pictures"
    save_noise(folder / 'a <b> & "c" %20.png', (80, 48))
    save_noise(folder / "below/größe.JPG", (40, 64))
    return folder


@pytest.fixture
def undrawn(monkeypatch):
    """Has empty files in place of figures, which take most of a run's time."""
    for name in ("draw_gate", "draw_statistics"):
        monkeypatch.setattr(attention_maps, name, lambda *given: given[-1].touch())


def run(weights, source, out, *more):
    given = ["--weights", weights, "--source", str(source), "--output", str(out), "--device", "cpu"]
    return main(["attention-maps", *given, *more])


def layers_in(folder):
    return json.loads((folder / "gates.json").read_text())["layers"]


def as_input(file):
    """The pixels of an image as a model takes them, (3, H, W)."""
    with Image.open(file) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1) / 255


def page_of(out):
    """A run's page, and the images that it shows."""
    page = Page((out / "index.html").read_text())
    return page, [unquote(link) for link in page.links]


def test_images_page_and_numbers(checkpoint, base, source, tmp_path, capsys):
    before, out = contents(source), tmp_path / "out"
    assert run(checkpoint, source, out, "--base", base, "--conf", "0.01") == 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert printed.out.splitlines()[-1] == f"{out / 'index.html'}: images drawn: 2; gates measured on: 2"
    assert contents(source) == before
    numbers = json.loads((out / "gates.json").read_text())
    labels = [layer["layer"] for layer in numbers["layers"]]
    assert labels == ["row 2 C2f_NAM m.0.cv2", "row 4 CBAM"]
    page, images = page_of(out)
    stems = ["001-a_b_c_20", "002-gr_e"]
    assert sorted(images) == sorted(
        ["gates.png"]
        + [f"{stem}-{kind}.png" for stem in stems for kind in ("picture", "detections", "base")]
        + [f"{stem}-{label.replace(' ', '-')}{end}.png" for stem in stems for label in labels for end in ("", "-over")]
    )
    assert {f.name for f in out.iterdir()} == {*images, "index.html", "gates.json"}
    for name in images:
        with Image.open(out / name) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("RGB")).std() > 1
    with Image.open(out / f"{stems[0]}-detections.png") as image:
        assert image.size == (80, 48)
    assert 'a <b> & "c" %20.png' in page.text
    assert "base: base.pt" in page.text
    for text in (page.text, (out / "index.html").read_text(), (out / "gates.json").read_text()):
        assert str(source.parent) not in text
        assert str(Path(checkpoint).parent) not in text
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert "http" not in (out / "index.html").read_text()
    assert all(gate["pictures"] == 2 and gate["gain"] == 1 for gate in numbers["layers"])
    assert (numbers["pictures"], numbers["weights"], numbers["base"]) == (2, "best.pt", "base.pt")
    for gate in numbers["layers"]:
        assert re.search(rf"^{re.escape(gate['layer'])} +{gate['mean']:.3f} ", printed.out, re.MULTILINE)


@pytest.mark.usefixtures("undrawn")
def test_numbers_are_those_of_the_model_on_its_input(checkpoint, tmp_path):
    """An image that is already as the model takes it; fused or not, the gates are the same."""
    save_noise(tmp_path / "p/a.png", (64, 64))
    assert run(checkpoint, tmp_path / "p", tmp_path / "out") == 0
    model = torch.load(checkpoint, weights_only=False)["model"]
    expected = measure_gates(model, [as_input(tmp_path / "p/a.png")[None]]).values()
    for ours, gate in zip(layers_in(tmp_path / "out"), expected, strict=True):
        assert [ours["mean"], ours["std"]] == pytest.approx([gate.mean, gate.std], rel=1e-4)
        assert sum(ours["histogram"]["counts"]) == ours["values"] == gate.values


@pytest.mark.usefixtures("undrawn")
def test_margins_do_not_count(checkpoint, tmp_path):
    """Numbers and drawings are of the cells on the image, which lies between twelve grey rows at both ends."""
    save_noise(tmp_path / "p/a.png", (64, 40))
    assert run(checkpoint, tmp_path / "p", tmp_path / "out") == 0
    model = torch.load(checkpoint, weights_only=False)["model"].eval()
    x = torch.full((1, 3, 64, 64), 114 / 255)
    x[0, :, 12:52] = as_input(tmp_path / "p/a.png")
    seen = []
    with torch.no_grad(), watching(attention_layers(model), lambda _, gate: seen.append(gate)):
        model(x)
    for ours, gate, rows in zip(layers_in(tmp_path / "out"), seen, (slice(3, 13), slice(1, 6)), strict=True):
        inner = gate[:, :, rows]
        expected = [float(inner.mean()), float(inner.std(correction=0))]
        assert ours["values"] == inner.numel()
        assert [ours["mean"], ours["std"]] == pytest.approx(expected, rel=1e-4)


KINDS = {
    "yolov8n-seg-gam.yaml": "Segmentation",
    "yolov8n-pose-gam.yaml": "Pose",
    "yolov8n-obb-gam.yaml": "OBB",
    "yolov8n-cls-gam.yaml": "Classification",
    "yolo11n-triplet.yaml": "Detection",
    "yolo26n-ema.yaml": "Detection",
    "rtdetr-l-gam.yaml": "RTDETRDetection",
}


@pytest.mark.parametrize("cfg", later(KINDS, ["yolov8n-seg-gam.yaml"]))
def test_every_task_and_family(cfg, tmp_path):
    weights = save_model(tmp_path / "best.pt", cfg, KINDS[cfg])
    save_noise(tmp_path / "p/a.png", (80, 48))
    small = ["--conf", "0.01", "--imgsz", "160" if "detr" in cfg else "64"]  # it has 300 queries
    assert run(weights, tmp_path / "p", tmp_path / "out", *small, "--trust") == 0
    layers = layers_in(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("001-a-row*-over.png"))) == len(layers) > 0
    assert all(layer["values"] for layer in layers)


@pytest.mark.usefixtures("undrawn")
def test_gain_is_listed_and_not_part_of_the_gate(tmp_path):
    save_noise(tmp_path / "p/a.png")
    means = []
    for gain in (1, 4):
        body = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "SimAM", [{"gain": gain}]]]
        head = [[-1, 1, "Classify", ["nc"]]]
        torch.manual_seed(0)
        model = tasks.ClassificationModel({"nc": 3, "backbone": body, "head": head}, verbose=False)
        torch.save({"model": model, "train_args": {}}, tmp_path / f"{gain}.pt")
        out = tmp_path / f"out{gain}"
        assert run(str(tmp_path / f"{gain}.pt"), tmp_path / "p", out, "--imgsz", "64") == 0
        (layer,) = layers_in(out)
        assert layer["gain"] == gain
        means.append(layer["mean"])
    assert means[0] == pytest.approx(means[1])
    assert 0.62 < means[0] < 1


@pytest.mark.integration
def test_unreadable_images_are_reported_and_skipped(checkpoint, source, tmp_path, caplog):
    """The next one is drawn in their place; files of other kinds do not count."""
    (source / "000.png").write_bytes(b"no image")
    (source / "notes.txt").write_text("no image")
    (source / "folder.png").mkdir()
    out = tmp_path / "out"
    assert run(checkpoint, source, out, "--pictures", "1") == 0
    line = f"{source / '000.png'}: not readable as an image, skipped"
    assert [r.message for r in caplog.records if "000.png" in r.message] == [line]
    assert [f.name for f in out.glob("*detections.png")] == ["001-a_b_c_20-detections.png"]
    assert json.loads((out / "gates.json").read_text())["pictures"] == 2
    assert "skipped, not readable: 000.png" in page_of(out)[0].text


@pytest.mark.integration
@pytest.mark.usefixtures("undrawn")
def test_patterns_and_the_size_of_images(checkpoint, source, tmp_path):
    """A pattern that no shell has expanded; sizes are multiples of the model's stride."""
    save_noise(source / "b[1].png")
    out = tmp_path / "out"
    for pattern, number in ((f"{source}/*.png", 2), (f"{source}/**/*", 3), (f"{source}/b[1].png", 1)):
        assert run(checkpoint, pattern, out, "--imgsz", "50", "--pictures", "1", "--force") == 0
        numbers = json.loads((out / "gates.json").read_text())
        assert (numbers["pictures"], numbers["imgsz"]) == (number, 64)
        assert "at 64 px" in (out / "index.html").read_text()
    assert run(checkpoint, f"{source}/*.png", source, "--force") == 2


@pytest.mark.integration
def test_names_that_are_not_utf8(checkpoint, tmp_path):
    """A file system may hold names that are not UTF-8: the page shows their escapes, and all of its images."""
    save_noise(tmp_path / "p/b.png")
    (tmp_path / "p/b.png").rename(tmp_path / "p/a\udcff.png")
    out = tmp_path / "out"
    assert run(checkpoint, tmp_path / "p", out) == 0
    page, images = page_of(out)
    assert "a\\udcff.png" in page.text
    assert {f.name for f in out.iterdir()} == {*images, "index.html", "gates.json"}


@pytest.mark.usefixtures("undrawn")
def test_limits(checkpoint, tmp_path):
    for i in range(9):
        save_noise(tmp_path / f"p/{i}.png", (32 + 8 * i, 48))
    assert run(checkpoint, tmp_path / "p", tmp_path / "out", "--pictures", "2", "--limit", "4") == 0
    assert json.loads((tmp_path / "out/gates.json").read_text())["pictures"] == 4
    drawn = {f.name for f in (tmp_path / "out").glob("*detections.png")}
    assert drawn == {"001-0-detections.png", "002-4-detections.png"}


@pytest.mark.integration
@pytest.mark.usefixtures("undrawn")
def test_folders(checkpoint, source, tmp_path, capsys, monkeypatch):
    """A folder is numbered unless it is given; one that holds files is used only by force."""
    monkeypatch.chdir(tmp_path)
    small = ["--pictures", "1", "--device", "cpu"]
    for number in (1, 2):
        assert main(["attention-maps", "--weights", checkpoint, "--source", str(source), *small]) == 0
        assert len(list(tmp_path.glob("runs/attention-maps*/index.html"))) == number
    kept = tmp_path / "runs/attention-maps"
    (kept / "mine.txt").write_text("mine")
    before = contents(kept)
    assert run(checkpoint, source, kept, *small) == 2
    assert "it holds files already; choose another folder, or --force" in capsys.readouterr().err
    assert contents(kept) == before
    assert run(checkpoint, source, kept, *small, "--force") == 0
    assert (kept / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("undrawn")
def test_folder_beside_an_image(checkpoint, tmp_path, monkeypatch):
    """Images and results in one working folder, which a list of files may name."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        save_noise(tmp_path / f"{name}.png")
    arguments = ["attention-maps", "--weights", checkpoint, "--source", "a.png", "b.png", "--output"]
    assert main([*arguments, "maps"]) == 0
    before = contents(tmp_path)
    assert main([*arguments, ".", "--force"]) == 2
    assert main([*arguments, str(tmp_path)]) == 2
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["gates.png", "index.html", "001-a_b_c_20-row-4-CBAM.png", "gates.json"])
def test_force_overwrites_no_other_files(name, checkpoint, source, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b'{"files": 2}')
    before = contents(tmp_path)
    assert run(checkpoint, source, out, "--force") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--output {out}: {name} is not of an earlier attention-maps, so it is not overwritten; choose" in line
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("undrawn")
def test_force_overwrites_files_of_all_earlier_runs(checkpoint, source, tmp_path):
    out = tmp_path / "out"
    for number in ("2", "1", "2"):
        assert run(checkpoint, source, out, "--pictures", number, "--force") == 0
        files = {f.name for f in out.iterdir()}
        assert {*json.loads((out / "gates.json").read_text())["files"]} == files
    assert len([name for name in files if name.endswith("detections.png")]) == 2


MISTAKES = [
    (["--weights", "{base}"], "base.pt: it has no attention layer, so there is no gate to draw"),
    (["--weights", "missing.pt"], "--weights missing.pt: no such file"),
    (["--base", "missing.pt"], "--base missing.pt: no such file"),
    (["--base", "{other}"], "Classify, is of the task classify, expected detect"),
    (["--weights", "{grey}"], "it takes images of 1 channels, expected 3"),
    (["--source", "{tmp}/missing"], "--source {tmp}/missing: no such file or folder"),
    (["--source", "{tmp}/empty"], "--source {tmp}/empty: no image there; expected files ending with"),
    (["--source", "{tmp}/broken"], "--source: none of 2 images can be read, the first is {tmp}/broken/a.jpg"),
    (["--output", "{tmp}/pictures/out"], "--output {tmp}/pictures/out: it is among the data"),
    (["--source", "{tmp}/pictures/below/größe.JPG", "--output", "{tmp}/pictures/below"], "below: it is among the data"),
    (["--output", "{tmp}/empty/notes.txt"], "--output {tmp}/empty/notes.txt: it is a file"),
    (["--pictures", "0"], "expected an int above 0, found '0'"),
    (["--conf", "2"], "expected a share above 0"),
    (["--device", "7"], "--device 7: no such device here"),
    (["--epochs", "3"], "'--epochs': unknown to attention-maps"),
]


@pytest.fixture(scope="module")
def others(base, tmp_path_factory):
    """Checkpoints that do not fit: without attention, of another task, and of grey images."""
    home, head = tmp_path_factory.mktemp("weights"), [[-1, 1, "Classify", ["nc"]]]
    grey = tasks.DetectionModel({**SMALL, "channels": 1}, ch=1, verbose=False)
    torch.save({"model": grey, "train_args": {}}, home / "grey.pt")
    other = save_model(home / "other.pt", {**SMALL, "head": head}, "Classification")
    return {"base": base, "other": other, "grey": home / "grey.pt"}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes(arguments, message, checkpoint, others, source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "broken"):
        (tmp_path / folder).mkdir()
    (tmp_path / "empty/notes.txt").write_text("none")
    for name in ("a.jpg", "b.png"):
        (tmp_path / "broken" / name).write_bytes(b"none")
    names = {"tmp": tmp_path, **others}
    given = {"--weights": checkpoint, "--source": str(source), "--output": str(tmp_path / "out"), "--device": "cpu"}
    given |= {option: value.format(**names) for option, value in zip(arguments[::2], arguments[1::2], strict=True)}
    before = contents(tmp_path)
    assert main(["attention-maps", *(part for pair in given.items() for part in pair)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("yolo-attn: error: ")
    assert message.format(**names) in line
    assert contents(tmp_path) == before


@pytest.mark.integration
def test_a_stopped_run_leaves_no_file(checkpoint, source, tmp_path, monkeypatch):
    """Ctrl-C in the middle of drawing."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(attention_maps, "draw_statistics", stop)
    assert run(checkpoint, source, tmp_path / "out") == 130
    assert list((tmp_path / "out").iterdir()) == []


def test_view_of_holes_and_constants():
    gate = torch.rand(1, 6, 4, 5)
    gate[0, 2] = torch.nan
    gate[0, :, 0, 0] = torch.nan
    gate[0, 3, 1, 1] = torch.inf
    gate[0, 4] += 1
    view = GateView.of(gate)
    known = gate[0].where(gate[0].isfinite(), torch.nan).numpy()
    assert view.strongest[0] == 4
    assert 2 not in view.strongest
    assert np.isnan(view.mean[0, 0])
    assert np.isnan(view.channels[2])
    expected = np.nanmean(known.reshape(6, -1)[[0, 1, 3, 4, 5]], 1)
    np.testing.assert_allclose(view.channels[[0, 1, 3, 4, 5]], expected, rtol=1e-5)
    np.testing.assert_array_equal(view.maps, known[view.strongest].astype(np.float32))
    assert view.counts.sum() == np.isfinite(known).sum()
    flat = GateView.of(torch.full((1, 2, 3, 3), 0.5))
    assert flat.range == pytest.approx((0.495, 0.505))
    nothing = GateView.of(torch.full((1, 2, 3, 3), torch.nan))
    assert nothing.counts.sum() == 0


@pytest.mark.integration
def test_unusual_images_and_gates_are_drawn(tmp_path):
    """One pixel wide, grey, with transparency, 16 bits; a layer without any gate, since its input is 0."""
    rows = {"backbone": [ROWS[0], [-1, 1, "SE", []]], "head": [[-1, 1, "Classify", ["nc"]]]}
    model = tasks.ClassificationModel({"nc": 3, **rows}, verbose=False)
    model.model[0].act = torch.nn.ReLU()
    torch.nn.init.constant_(model.model[0].bn.bias, -100)
    torch.save({"model": model, "train_args": {"imgsz": 32}}, tmp_path / "best.pt")
    folder = tmp_path / "p"
    save_noise(folder / "thin.png", (1, 90))
    for mode in ("L", "RGBA", "I;16"):
        Image.new(mode, (40, 30), 99 if mode != "RGBA" else (9, 9, 9, 9)).save(folder / f"{mode[0]}.png")
    shutil.copy(folder / "L.png", folder / "L.tif")
    assert run(str(tmp_path / "best.pt"), folder, tmp_path / "out", "--trust") == 0
    (layer,) = layers_in(tmp_path / "out")
    assert layer["mean"] is None
    numbers = json.loads((tmp_path / "out/gates.json").read_text())
    assert len(list((tmp_path / "out").glob("*-row-1-SE.png"))) == numbers["pictures"] >= 4
