"""What is tried in every environment: a list of steps, run inside it by `python -m tools.versions.steps`.

A step is a function of the run's folder, and passes if it returns. Its docstring says in docs/versions.md what must
hold. A later step may use the files of an earlier one. Nothing but the standard library is imported before the steps.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ultralytics", "torch", "torchvision", "numpy", "opencv-python", "msgspec", "onnx", "onnxruntime")
SIZE = 64
SETTINGS = {"imgsz": SIZE, "batch": 8, "device": "cpu", "workers": 0, "plots": False}
OPTIONS = ("--imgsz", SIZE, "--batch", 8, "--device", "cpu")
QUICK = ("workers=0", "plots=False")
CATEGORIES = {3, 7, 42}
PROCESS_LIMIT = 240
"""Seconds that a process which a step starts may take."""


def importing(home: Path) -> None:
    """Import the package: silent, without PyTorch and Ultralytics; importing Ultralytics then registers the layers."""
    python(IMPORT, home)


IMPORT = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.redirect_stderr(text):
    import yolo_attn
assert not text.getvalue(), text.getvalue()
assert not {"torch", "ultralytics"} & set(sys.modules)
from ultralytics.nn import tasks
tasks.DetectionModel("yolov8n-simam.yaml", verbose=False)
"""


def doctor(home: Path) -> None:
    """`doctor` finds nothing wrong but a second copy of Ultralytics, where one lies in front of another."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        from yolo_attn.cli import main

        main(["doctor"])
    wrong = [line for line in output.getvalue().splitlines() if line.startswith("!") and "! copies" not in line]
    assert not wrong, wrong[0]


def layers(home: Path) -> None:
    """`layers` lists every layer with its cost."""
    command("layers")


def yolov8(home: Path) -> None:
    """Build yolov8n with GAM on each map that feeds the head."""
    build("yolov8n-gam.yaml", "GAM", 3)


def yolov9(home: Path) -> None:
    """Build yolov9t with NAM inside its blocks, by a name without a file."""
    build("yolov9t-nam-blocks.yaml", "NAM")


def yolov10(home: Path) -> None:
    """Build yolov10n with SimAM in the backbone, by a name without a file."""
    build("yolov10n-simam-backbone.yaml", "SimAM")


def yolo11(home: Path) -> None:
    """Build yolo11n with CBAM inside every C3k2."""
    build("yolo11n-c3k2-cbam.yaml", "CBAM")


def yolo12(home: Path) -> None:
    """Build yolo12n with ECA on each map that feeds the head, by a name without a file."""
    build("yolo12n-eca.yaml", "ECA", 3)


def yolo26(home: Path) -> None:
    """Build yolo26n with ECA on each map that feeds the head."""
    build("yolo26n-eca.yaml", "ECA", 3)


def rtdetr(home: Path) -> None:
    """Build RT-DETR-L with GAM on each map that feeds the decoder."""
    build("rtdetr-l-gam.yaml", "GAM", 3)


def wrong_row(home: Path) -> None:
    """A row with an option that the layer does not know is refused in one line, and no run folder is left."""
    from yolo_attn.model.names import MODEL_YAMLS

    text = (MODEL_YAMLS / "yolov8-simam.yaml").read_text().replace("SimAM, []", "SimAM, [1024]")
    (home / "yolov8n-wrong.yaml").write_text(text)
    project = home / "refused"
    message = command("train", "--cfg", home / "yolov8n-wrong.yaml", "--data", data(home), "--project", project, code=2)
    assert "SimAM" in message, message
    assert not project.exists(), f"{project.name} was made"


def insert(home: Path) -> None:
    """`insert` puts GAM behind row 4, and `remove` gives the same text back."""
    before, between, after = plain_yaml(home), home / "yolov8n-shifted.yaml", home / "yolov8n-back.yaml"
    command("insert", before, "--layer", "GAM", "--at", "after:4", "--output", between)
    command("remove", between, "--output", after)
    assert before.read_bytes() == after.read_bytes(), "remove leaves another text than insert took"


def shifted_rows(home: Path) -> None:
    """With that row as identity and a plain checkpoint's weights, the outputs equal the plain model's bit for bit."""
    import torch
    from torch import nn
    from ultralytics import YOLO

    base = YOLO(plain_checkpoint(home)).model.float().eval()
    model: Any = YOLO(home / "yolov8n-shifted.yaml").load(str(plain_checkpoint(home))).model.float().eval()
    assert type(model.model[5]).__name__ == "GAM", type(model.model[5])
    identity: Any = nn.Identity()
    identity.i, identity.f = model.model[5].i, model.model[5].f
    model.model[5] = identity
    x = torch.rand(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        ours, theirs = model(x)[0], base(x)[0]
    assert torch.equal(ours, theirs), "outputs differ"


def check_data(home: Path) -> None:
    """`check-data` reads a drawn COCO-format set."""
    command("check-data", data(home))


def training(home: Path) -> None:
    """`train` yolov8n-gam one epoch on COCO-format data: results.csv and metrics.json with COCO's AP, plots."""
    train(home, "trained", "--cfg", "yolov8n-gam.yaml", settings=["workers=2"])
    run = home / "runs/trained"
    assert (run / "results.png").is_file(), "there is no results.png"


def transfer(home: Path) -> None:
    """`train --weights` of a plain checkpoint takes all of its tensors."""
    train(home, "transferred", "--cfg", "yolov8n-nam.yaml", "--weights", plain_checkpoint(home))
    tensors = json.loads((home / "runs/transferred/transfer.json").read_text())["tensors"]
    assert tensors["transferred"] == tensors["of"], tensors


KILLED = """
import os, signal, sys
import yolo_attn
from ultralytics import YOLO
model = YOLO("yolov8n-cbam.yaml")
model.add_callback("on_train_batch_end", lambda trainer: trainer.epoch and os.kill(os.getpid(), signal.SIGKILL))
model.train(data=sys.argv[1], project=sys.argv[2], name="killed", epochs=2, **{settings})
"""


def kill_and_resume(home: Path) -> None:
    """A training that is killed in its second epoch goes on by `train --resume` and has a row for each epoch."""
    arguments = (str(data(home)), str(home / "runs"))
    killed = python(KILLED.format(settings=SETTINGS), home, *arguments, code=-9)
    last = home / "runs/killed/weights/last.pt"
    assert last.is_file(), killed
    command("train", "--resume", last)
    assert [row["epoch"] for row in results(home / "runs/killed")] == [1, 2]


def validating(home: Path) -> None:
    """`val` reports COCO's numbers; predictions.json has the category ids of the JSON."""
    validate(home, trained(home), "validated")
    found = json.loads((home / "runs/validated/predictions.json").read_text())
    assert found, "nothing was detected"
    assert {each["category_id"] for each in found} <= CATEGORIES, found[0]


def predicting(home: Path) -> None:
    """A process that never imported the package loads the checkpoint by `YOLO(...)` and predicts."""
    python(PREDICT, home, str(trained(home)), str(data(home) / "images/val"))


PREDICT = """
import sys
from ultralytics import YOLO
found = YOLO(sys.argv[1]).predict(sys.argv[2], imgsz=64, conf=0.001, device="cpu", verbose=False)
assert len(found) == 8 and sum(len(each.boxes) for each in found) > 0
"""


def plain_python(home: Path) -> None:
    """`YOLO(...).train(data=...)` and `.val()` in Python on COCO-format data report COCO's AP."""
    from ultralytics import YOLO

    model: Any = YOLO("yolo11n-nam.yaml")
    where = {"project": str(home / "runs"), "data": str(data(home))}
    metrics = model.train(epochs=1, name="plain", **where, **SETTINGS)
    assert metrics.fitness == metrics.coco.metrics["AP"] == metrics.results_dict["metrics/COCO_AP"], metrics.fitness
    assert model.val(name="plain-val", **where, **SETTINGS).coco is not None


def yolo_grammar(home: Path) -> None:
    """`yolo-attn detect train model=... data=...` in Ultralytics' own grammar trains on COCO-format data."""
    settings = [f"{key}={value}" for key, value in {**SETTINGS, "project": home / "runs", "name": "grammar"}.items()]
    command("detect", "train", "model=yolov8n-simam.yaml", f"data={data(home)}", "epochs=1", *settings)
    assert "metrics/COCO_AP" in results(home / "runs/grammar")[0]


def segmenting(home: Path) -> None:
    """`train` and `val` yolov8n-seg-gam on the JSON's masks, also where no image has a detection."""
    metrics = train(home, "segmented", "--cfg", "yolov8n-seg-gam.yaml", "--task", "segment")
    assert "boxes" in metrics, list(metrics)
    validate(home, home / "runs/segmented/weights/best.pt", "nothing-val", "conf=1.0")
    assert json.loads((home / "runs/nothing-val/predictions.json").read_text()) == []


def worker(home: Path) -> None:
    """The file that Ultralytics writes for each process of a multi-GPU training knows the layers."""
    from ultralytics.utils.dist import generate_ddp_file

    from yolo_attn.engine.training.trainer import DetectionTrainer

    where = {"data": str(data(home)), "project": str(home / "runs"), "name": "worker"}
    trainer = DetectionTrainer(overrides={"model": "yolov8n-gam.yaml", "epochs": 1, **where, **SETTINGS})
    python(Path(generate_ddp_file(trainer)).read_text(), home)
    assert results(home / "runs/worker")


def safetensors(home: Path) -> None:
    """`export` to safetensors, and `val` of that file with the same AP as the checkpoint's."""
    from yolo_attn.coco.evaluate import METRICS

    export(home, "safetensors")
    before = scores(home / "runs/validated")
    after = validate(home, trained(home).with_suffix(".safetensors"), "from-safetensors")
    for name in METRICS:
        assert before[name] == after[name], (name, before[name], after[name])


def safe_loading(home: Path) -> None:
    """`load_safe` reads the checkpoint without running its pickle; outputs equal those of Ultralytics' own loading."""
    import torch
    from ultralytics import YOLO

    import yolo_attn

    x = torch.rand(1, 3, SIZE, SIZE)
    safe: Any = yolo_attn.load_safe(trained(home))
    with torch.inference_mode():
        ours, theirs = safe.float().eval()(x)[0], YOLO(trained(home)).model.float().eval()(x)[0]
    assert torch.equal(ours, theirs), "outputs differ"


def onnx(home: Path) -> None:
    """`export` to ONNX: the file's outputs by onnxruntime agree with the model's, and `YOLO(...)` predicts with it."""
    from ultralytics import YOLO

    export(home, "onnx")
    model: Any = YOLO(trained(home).with_suffix(".onnx"), task="detect")
    found = model.predict(data(home) / "images/val", imgsz=SIZE, conf=0.001, device="cpu")
    assert sum(len(each.boxes) for each in found), "nothing was detected"


def torchscript(home: Path) -> None:
    """`export` to TorchScript: the file's outputs agree with the model's."""
    export(home, "torchscript")


def attention_maps(home: Path) -> None:
    """`attention-maps` draws the gates and writes their statistics."""
    source = data(home) / "images/val"
    arguments = ("--source", source, "--output", home / "maps", "--pictures", 2, "--limit", 4, "--device", "cpu")
    command("attention-maps", "--weights", trained(home), *arguments)
    assert json.loads((home / "maps/gates.json").read_text())


def unregistering(home: Path) -> None:
    """`unregister` leaves Ultralytics without the layers, and `register` brings them back."""
    from ultralytics import YOLO

    import yolo_attn

    yolo_attn.unregister()
    try:
        YOLO("yolov8n.yaml")
        with contextlib.suppress(Exception):  # Ultralytics raises anything for a name that it does not know
            YOLO("yolov8n-gam.yaml")
            raise SystemExit("yolov8n-gam.yaml builds without the package")
    finally:
        yolo_attn.register()
    build("yolov8n-gam.yaml", "GAM", 3)


STEPS: tuple[Callable[[Path], None], ...] = (
    *(importing, doctor, layers),
    *(yolov8, yolov9, yolov10, yolo11, yolo12, yolo26, rtdetr),
    *(wrong_row, insert, shifted_rows, check_data),
    *(training, transfer, kill_and_resume, validating, predicting, plain_python, yolo_grammar, segmenting, worker),
    *(safetensors, safe_loading, onnx, torchscript, attention_maps, unregistering),
)


def data(home: Path) -> Path:
    """A drawn COCO-format set of 16 and 8 images with masks, crowds and odd category ids."""
    from yolo_attn.coco.demo import demo_dataset

    return demo_dataset(home / "data", train=16, val=8)


def trained(home: Path) -> Path:
    """The checkpoint of the step `training`."""
    file = home / "runs/trained/weights/best.pt"
    assert file.is_file(), "there is no checkpoint, since the training failed"
    return file


def plain_yaml(home: Path) -> Path:
    """Ultralytics' yolov8n with as many classes as the data."""
    from ultralytics.utils.checks import check_yaml

    file = home / "yolov8n-plain.yaml"
    text = Path(check_yaml("yolov8.yaml")).read_text()
    file.write_text(text.replace("nc: 80", f"nc: {len(CATEGORIES)}"))
    return file


def plain_checkpoint(home: Path) -> Path:
    """A checkpoint of it, of random weights."""
    import torch
    from ultralytics import YOLO

    file = home / "yolov8n-plain.pt"
    if not file.is_file():
        torch.save({"model": YOLO(plain_yaml(home)).model, "train_args": {}}, file)
    return file


def build(name: str, layer: str, number: int | None = None) -> None:
    """Build a model, count its attention layers, and let it compute an output."""
    import torch
    import ultralytics

    model: Any = (ultralytics.RTDETR if name.startswith("rtdetr") else ultralytics.YOLO)(name).model.eval()
    found = sum(type(module).__name__ == layer for module in model.modules())
    assert found == number if number else found, f"{found} layers of {layer}"
    with torch.inference_mode():
        output = model(torch.rand(1, 3, 2 * SIZE, 2 * SIZE))
    assert torch.isfinite(output[0] if isinstance(output, tuple) else output).all(), "outputs are not finite"


def train(home: Path, name: str, *arguments: object, settings: Sequence[str] = QUICK) -> dict[str, Any]:
    """Train an epoch by the command, and check the run's files; returns metrics.json."""
    where = ("--data", data(home), "--epochs", 1, "--project", home / "runs", "--name", name)
    command("train", *where, *OPTIONS, *arguments, *settings)
    run = home / "runs" / name
    assert "metrics/COCO_AP" in results(run)[0], results(run)[0]
    return scores(run)


def validate(home: Path, weights: Path, name: str, *more: object) -> dict[str, Any]:
    """Validate by the command; returns metrics.json."""
    where = ("--data", data(home), "--project", home / "runs", "--name", name)
    command("val", "--weights", weights, *where, *OPTIONS, *QUICK, *more)
    return scores(home / "runs" / name)


def scores(run: Path) -> dict[str, Any]:
    """metrics.json, which has COCO's AP."""
    metrics = json.loads((run / "metrics.json").read_text())
    assert -1 <= metrics["AP"] <= 1, metrics["AP"]
    return metrics


def export(home: Path, fmt: str) -> None:
    """Export by the command, which verifies the file."""
    command("export", "--weights", trained(home), "--format", fmt, "--imgsz", SIZE)


def results(run: Path) -> list[dict[str, float]]:
    """results.csv, a dictionary a row."""
    header, *rows = [line.split(",") for line in (run / "results.csv").read_text().splitlines()]
    return [dict(zip(map(str.strip, header), map(float, row), strict=True)) for row in rows]


def command(*arguments: object, code: int = 0) -> str:
    """Run `yolo-attn`, expect an exit code, and return what it wrote to stderr."""
    from yolo_attn.cli import main

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        found = main([str(argument) for argument in arguments])
    print(errors.getvalue())
    last = (errors.getvalue().strip() or "no message").splitlines()[-1]
    assert found == code, f"exit code {found}: {last}"
    return last


def python(source: str, home: Path, *arguments: str, code: int = 0) -> str:
    """Run Python code in a process of its own, expect an exit code, and return its last line of stderr."""
    result = subprocess.run(
        [sys.executable, "-c", source, *arguments], cwd=home, capture_output=True, text=True, timeout=PROCESS_LIMIT
    )
    print(result.stdout, result.stderr)
    last = (result.stderr.strip() or "no message").splitlines()[-1]
    assert result.returncode == code, f"exit code {result.returncode}: {last}"
    return last


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter; without those that are absent."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def main(report: str, *names: str) -> None:
    """Run the named steps in the current folder; a line of the report says how each went, as soon as it has."""
    with Path(report).open("a") as stream:

        def write(line: dict[str, Any]) -> None:
            stream.write(json.dumps(line) + "\n")
            stream.flush()

        write({"versions": versions()})
        for step in STEPS:
            if step.__name__ in names:
                write({"begun": step.__name__})
                start = time.monotonic()
                error = attempt(step, Path.cwd())
                write({"step": step.__name__, "seconds": time.monotonic() - start, "error": error})


def attempt(step: Callable[[Path], None], home: Path) -> str | None:
    """Run a step; returns in one line what went wrong."""
    print(f"\n=== {step.__name__}", flush=True)
    try:
        step(home)
    except (Exception, SystemExit) as error:  # the table reports what a release raises
        import traceback

        traceback.print_exc(file=sys.stdout)
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # threads of a runtime must not keep a finished run
