"""Names of base, layer and place: models without a file."""

import re

import pytest
import yaml
from support import run_python, txt_data
from tiers import later
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks

from yolo_attn.engine.preflight.checks import check_cfg, check_model
from yolo_attn.errors import UserError
from yolo_attn.model.insertion import insert
from yolo_attn.model.names import MODEL_YAMLS, read_model


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(described):
    return [*described["backbone"], *described["head"]]


@pytest.mark.parametrize(
    ("name", "base", "layer", "place"),
    later(
        [
            ("yolov9t-gam", "yolov9t", "GAM", "neck"),
            ("yolo11s-nam-backbone", "yolo11s", "NAM", "backbone"),
            ("yolo26m-cbam-stages", "yolo26m", "CBAM", "stages"),
            ("yolov8l-seg-simam-blocks", "yolov8l-seg", "SimAM", "blocks"),
            ("yolov8x-p2-triplet", "yolov8x-p2", "TripletAttention", "neck"),
            ("yolov10b-eca", "yolov10b", "ECA", "neck"),
            ("rtdetr-resnet50-se-blocks", "rtdetr-resnet50", "SE", "blocks"),
            ("resnet50-bam-stages", "resnet50", "BAM", "stages"),
            ("yolov8n-gam-nam-backbone", "yolov8n-gam", "NAM", "backbone"),
            ("yolov9s-ema-simam-blocks", "yolov9s-ema", "SimAM", "blocks"),
            ("yolo12n-obb-coordatt-neck", "yolo12n-obb", "CoordAtt", "neck"),
        ],
        ["yolo11s-nam-backbone", "yolov10b-eca", "yolov8n-gam-nam-backbone"],
    ),
)
def test_name_is_the_base_with_the_layer_put_in(name, base, layer, place):
    found = tasks.yaml_model_load(f"{name}.yaml")
    text, scale = read_model(f"{base}.yaml")
    wanted = yaml.safe_load(insert(text, base, layer, place, None, scale).text)
    assert rows(found) == rows(wanted)
    assert (found["yaml_file"], found["scale"]) == (f"{name}.yaml", tasks.guess_model_scale(f"{base}.yaml"))


@pytest.mark.integration
def test_built_by_every_door():
    for model in (YOLO("yolov9t-simam.yaml"), YOLO("yolov8s-world-se.yaml"), YOLO("yolov8n-cls-nam.yaml")):
        assert sum(type(m).__name__ in ("SimAM", "SE", "NAM") for m in model.model.model) in (1, 3)
    assert RTDETR("yolov8n-rtdetr-eca.yaml").model.model[-2].__class__.__name__ == "ECA"
    task = check_cfg("yolov5m-eca.yaml")
    model = check_model("yolov5m-eca.yaml", task, 3)
    assert (task.name, type(model.model[-2]).__name__) == ("detect", "ECA")


@pytest.mark.integration
def test_wide_scale_is_wide():
    wide, narrow = (YOLO(f"yolo11{scale}-nam-backbone.yaml").model.model[9] for scale in "ln")
    assert [next(layer.parameters()).numel() for layer in (wide, narrow)] == [512, 256]


def test_a_file_of_the_name_comes_first(here):
    text = (MODEL_YAMLS / "yolov8-se.yaml").read_text()
    (here / "yolov8n-eca-backbone.yaml").write_text(text)
    assert rows(tasks.yaml_model_load("yolov8n-eca-backbone.yaml")) == rows(yaml.safe_load(text))
    (here / "yolov9t.yaml").write_text(text)  # a base of one's own, too
    assert [row[2] for row in rows(tasks.yaml_model_load("yolov9t-nam.yaml"))][-7:-1] == 3 * ["SE"] + 3 * ["NAM"]


def test_base_of_ones_own_in_a_folder(here):
    folder = here / "exp2n_x"
    folder.mkdir()
    (folder / "yolov8-mine.yaml").write_text(read_model("yolov8n.yaml")[0])
    found = tasks.yaml_model_load(folder / "yolov8s-mine-gam.yaml")
    assert found["scale"] == "s"
    assert [row[2] for row in rows(found)][22:25] == 3 * ["GAM"]
    with pytest.raises(FileNotFoundError):
        tasks.yaml_model_load("elsewhere/yolov8n-gam-stages.yaml")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("yolov9t-gem", "yolov9t-gam.yaml", marks=pytest.mark.integration),
        ("yolov8n-simm-blocks", "yolov8n-simam-blocks.yaml"),
        ("yolo11n-nam-bakbone", "yolo11n-nam-backbone.yaml"),
        ("yolo26s-pose-tripplet", "yolo26s-pose-triplet.yaml"),
        ("yolov8n-CBMA", "yolov8n-cbam.yaml"),
        ("yolov8n-gam-head", "yolov8n-gam.yaml"),
        ("yolov8n-gam-seg", "yolov8n-seg-gam.yaml"),
        ("yolov8n-c2f-gam", "yolov8n-gam-blocks.yaml"),
        ("yolov8n-gam-blocks:backbone", "yolov8n-gam-blocks.yaml or yolov8n-gam-backbone.yaml"),
        ("yolov8n-gam-blocks-backbone", "yolov8n-gam-blocks.yaml or yolov8n-gam-backbone.yaml"),
        ("yolov8n_gam_stages", "yolov8n-gam-stages.yaml"),
        ("yolov11n-gam", "yolo11n-gam.yaml"),
        ("yolo8n-triplet", "yolov8n-triplet.yaml"),
        ("towernet-simam", "towernet-cls-simam.yaml"),
        ("resnet50-cls-simm", "resnet50-cls-simam.yaml"),
    ],
)
def test_near_misses_in_one_line(name, near):
    for load in (tasks.yaml_model_load, YOLO, check_cfg):
        with pytest.raises(UserError, match=rf"^{name}.yaml: no such model; did you mean {near}") as error:
            load(f"{name}.yaml")
        assert isinstance(error.value, FileNotFoundError)


def test_a_name_of_nothing_is_ultralytics_to_refuse():
    for name in ("nothing.yaml", "neck.yaml", "yolov99n.yaml"):
        with pytest.raises(FileNotFoundError) as error:
            tasks.yaml_model_load(name)
        assert not isinstance(error.value, UserError)


def test_a_name_with_a_layer_and_nothing_near_says_how_names_are_made():
    for name in ("yolov8n-gam-gam2-x.yaml", "-gam.yaml", "gam.yaml", "yolov99n-gam.yaml"):
        with pytest.raises(FileNotFoundError, match=f"^{name}: no such model; names are BASE-LAYER.yaml or") as error:
            YOLO(name)
        assert isinstance(error.value, UserError)
    with pytest.raises(FileNotFoundError, match=r"^yolov8n-gam.yml: no such model; did you mean yolov8n-gam.yaml\?$"):
        YOLO("yolov8n-gam.yml")


def test_a_place_that_the_base_lacks_is_reported():
    with pytest.raises(UserError, match=r"^yolov6n-se-blocks.yaml: \S+/yolov6.yaml: --at blocks: found Conv"):
        YOLO("yolov6n-se-blocks.yaml")


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("- 1\n", "not a model YAML: expected a list of rows under backbone and head"),
        ("backbone: [", "not YAML: "),
        ("backbone: [[-1, 1, Conv]]\nhead: [[0, 1, Detect, [nc]]]", "found [-1, 1, 'Conv'], expected"),
        ("nc: 1\nbackbone: [[-1, 1, Conf, [8]]]\nhead: [[[0], 1, Detect, [nc]]]", "unknown layer 'Conf'"),
    ],
)
@pytest.mark.parametrize("name", ["yolov9t-gam", "yolov9t-gam-stages", "yolov9t-gam-nam"])
def test_a_broken_base_is_named(name, text, reported, here):
    (here / "yolov9t.yaml").write_text(text)
    for load in (tasks.yaml_model_load, read_model, check_cfg):
        with pytest.raises(UserError, match=rf"^yolov9t-gam\S*.yaml: yolov9t.yaml.*{re.escape(reported)}"):
            load(f"{name}.yaml")


WORKER = """
import subprocess, sys
import yolo_attn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.dist import generate_ddp_file
settings = {{"model": "yolov8n-eca-backbone.yaml", "data": {data!r}, "epochs": 1, "imgsz": 64, "device": "cpu"}}
settings |= {{"plots": False, "batch": 4, "project": {home!r}, "name": "worker", "val": False}}
file = generate_ddp_file(DetectionTrainer(overrides=settings))
sys.exit(subprocess.run([sys.executable, file]).returncode)
"""


@pytest.mark.integration
def test_a_worker_of_a_multi_gpu_training_and_its_checkpoint_know_it(here):
    values = {"data": str(txt_data(here)), "home": str(here)}
    result = run_python(WORKER.format(**values), here)
    last = here / "worker/weights/last.pt"
    code = (
        f"from ultralytics import YOLO; import yolo_attn; m = YOLO({str(last)!r}).model; print(m.yaml['backbone'][9])"
    )
    result = run_python(code, here)
    assert result.stdout.splitlines()[-1] == "[-1, 1, 'ECA', []]"
