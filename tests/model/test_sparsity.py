"""NAM's penalty: what it adds, that it acts, and that no split of the images changes its gradient."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from matplotlib.axes import Axes
from support import QUICK
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks

from yolo_attn.cli import main
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.errors import UserError
from yolo_attn.layers import NAM
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.model.sparsity import sum_of_scales

P = 0.1


def build(strength=P, cfg="yolov8n-nam.yaml"):
    torch.manual_seed(0)
    d = {**tasks.yaml_model_load(cfg), **({} if strength is None else {"nam_sparsity": strength})}
    model = tasks.DetectionModel(d, verbose=False)
    model.args = get_cfg()
    return model


def batch(images, seed=0):
    rng = torch.Generator().manual_seed(seed)
    n = 2 * images
    return {
        "img": torch.rand(images, 3, 64, 64, generator=rng),
        "batch_idx": torch.arange(images).repeat_interleave(2).float(),
        "cls": torch.zeros(n, 1),
        "bboxes": torch.rand(n, 4, generator=rng) * 0.3 + 0.3,
    }


def scales(model):
    return [m.channel.bn.weight for m in model.modules() if isinstance(m, NAM)]


def gradients(strength, sizes, scaler=None):
    """γ's gradient after batches of these sizes, accumulated."""
    model = build(strength).train()
    for i, size in enumerate(sizes):
        loss = model.loss(batch(size, seed=i))[0].sum()
        (loss * scaler if scaler else loss).backward()
    return torch.cat([s.grad / (scaler or 1) for s in scales(model)])


@pytest.mark.trap(10)
@pytest.mark.parametrize(("sizes", "scaler"), [([2] * 4, None), ([8], None), ([3, 5], None), ([4, 4], 2.0**10)])
def test_gradient_is_the_same_for_any_split(sizes, scaler):
    """p·sign(γ) for each picture: batches, accumulation, and a loss scaled as AMP scales it."""
    penalty = gradients(P, sizes, scaler) - gradients(0.0, sizes, scaler)
    torch.testing.assert_close(penalty, torch.full_like(penalty, 8 * P), rtol=1e-3, atol=1e-3)


def rank_gradients(rank, folder, strength):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous_{strength}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(build(strength).train(), find_unused_parameters=True)
    loss = model(batch(4, seed=rank))[0].sum() * 2  # as Ultralytics does before ranks are averaged
    loss.backward()
    if rank == 0:
        torch.save(torch.cat([s.grad for s in scales(model.module)]), f"{folder}/{strength}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.integration
def test_gradient_is_the_same_on_two_ranks(tmp_path):
    for strength in (P, 0.0):
        mp.spawn(rank_gradients, (str(tmp_path), strength), nprocs=2)
    penalty = torch.load(tmp_path / f"{P}.pt") - torch.load(tmp_path / "0.0.pt")
    torch.testing.assert_close(penalty, torch.full_like(penalty, 8 * P), rtol=1e-3, atol=1e-3)


def test_loss_and_its_part():
    model, plain = build().train(), build(None).train()
    (loss, parts), (base, base_parts) = (copy.deepcopy(m).loss(batch(4)) for m in (model, plain))
    total = sum(s.abs().sum() for s in scales(model))
    torch.testing.assert_close(loss.sum(), base.sum() + 4 * P * total)
    assert parts["nam_loss"].item() == pytest.approx(P * total.item())
    assert "nam_loss" not in base_parts


def test_both_parts_count_and_zero_has_no_gradient():
    d = tasks.yaml_model_load("yolov8n-nam.yaml")
    for row in d["head"][-4:-1]:
        row[3] = [{"spatial": True}]
    model = tasks.DetectionModel({**d, "nam_sparsity": P}, verbose=False)
    for m in model.modules():
        if isinstance(m, NAM):
            m.channel.bn.weight.data[0] = 0
            m.spatial.bn.weight.data.fill_(-2)
    expected = sum(
        m.channel.bn.weight.sum() + 2 * len(m.spatial.bn.weight) for m in model.modules() if isinstance(m, NAM)
    )
    total = sum_of_scales(model)
    assert total.item() == pytest.approx(expected.item())
    total.backward()
    nam = next(m for m in model.modules() if isinstance(m, NAM))
    assert nam.channel.bn.weight.grad[:2].tolist() == [0, 1]
    assert nam.spatial.bn.weight.grad.unique().tolist() == [-1]


def test_the_yamls_own_spelling_of_the_number(tmp_path):
    """PyYAML reads 1e-4 as text."""
    text = (MODEL_YAMLS / "yolov8-nam.yaml").read_text()
    (tmp_path / "yolov8n-sparse.yaml").write_text(f"nam_sparsity: 1e-4\n{text}")
    model = YOLO(tmp_path / "yolov8n-sparse.yaml").model
    model.args = get_cfg()
    assert model.train().loss(batch(2))[1]["nam_loss"].item() == pytest.approx(448e-4)


def test_large_sums_in_half_precision():
    model = build()
    for s in scales(model):
        s.data.fill_(1000)
    assert sum_of_scales(model.half()).item() == 448e3


def test_losses_that_are_means_take_it_once_a_batch():
    d = tasks.yaml_model_load("yolov8n-cls.yaml")
    d["backbone"][8] = [-1, 3, "C2f_NAM", [1024, True]]
    model = tasks.ClassificationModel({**d, "nam_sparsity": P}, nc=3, verbose=False)
    for size in (2, 8):
        images = {"img": torch.rand(size, 3, 64, 64), "cls": torch.zeros(size, dtype=torch.long)}
        loss, parts = model.train().loss(images)
        base = parts["loss"] if isinstance(parts, dict) else parts[0]
        assert loss.sum().item() == pytest.approx(base.item() + P * sum_of_scales(model).item(), rel=1e-4)


def test_in_blocks_too():
    d = tasks.yaml_model_load("yolov8n.yaml")
    d["backbone"][2] = [-1, 3, "C2f_NAM", [128, True]]
    model = tasks.DetectionModel({**d, "nam_sparsity": P}, verbose=False)
    assert sum_of_scales(model).item() == 16


@pytest.mark.parametrize(
    ("cfg", "strength", "message"),
    [
        ("yolov8n-nam.yaml", "much", "nam_sparsity: 'much', expected a number of at least 0"),
        ("yolov8n-nam.yaml", -1, "expected a number of at least 0"),
        ("yolov8n-nam.yaml", True, "expected a number of at least 0"),
        ("yolov8n-nam.yaml", "", "nam_sparsity: '', expected a number of at least 0, such as 0.0001"),
        ("yolov8n-gam.yaml", 1e-4, "but no row names NAM"),
        ("yolov8n.yaml", 1e-4, "but no row names NAM"),
    ],
)
def test_wrong_values_name_the_file(cfg, strength, message):
    with pytest.raises(UserError, match=message) as raised:
        build(strength, cfg)
    assert str(raised.value).startswith(cfg)


@pytest.mark.parametrize("text", ["nam_sparsty: 1e-4", "nam-sparsity: 1e-4", "NAM_sparsity: 1e-4", "nam_sparse: 1e-4"])
def test_near_miss_of_the_key_is_refused(tmp_path, text):
    (tmp_path / "yolov8n-own.yaml").write_text(f"{text}\n{(MODEL_YAMLS / 'yolov8-nam.yaml').read_text()}")
    with pytest.raises(UserError, match=r"yolov8n-own\.yaml: unknown key '.*'; NAM's penalty is nam_sparsity$"):
        YOLO(tmp_path / "yolov8n-own.yaml")


def test_key_without_a_value_is_refused_and_other_keys_are_not(tmp_path):
    text = (MODEL_YAMLS / "yolov8-nam.yaml").read_text()
    (tmp_path / "yolov8n-own.yaml").write_text(f"nam_sparsity:\n{text}")
    with pytest.raises(UserError, match="nam_sparsity: None, expected a number"):
        YOLO(tmp_path / "yolov8n-own.yaml")
    (tmp_path / "yolov8n-own.yaml").write_text(f"names: [a]\nactivation: nn.SiLU()\nch: 3\n{text}")
    YOLO(tmp_path / "yolov8n-own.yaml")
    assert tasks.DetectionModel({**tasks.yaml_model_load("yolov8n.yaml"), "nam_sparsty": 1}, verbose=False)


def mean_scale(file):
    model = torch.load(file, weights_only=False)["model"].float()
    return torch.cat(scales(model)).abs().mean().item()


@pytest.mark.integration
@pytest.mark.trap(18)
def test_training_shrinks_the_scales_logs_the_loss_and_resumes(small_coco, tmp_path, monkeypatch):
    """γ against a run without the penalty; results.csv and results.png show it; a resumed run keeps it."""
    hyper = ["optimizer=SGD", "warmup_epochs=0", "nbs=8", "lr0=0.05"]
    settings = ["--data", str(small_coco), "--project", str(tmp_path), *QUICK, *hyper]
    titles = []
    set_title = Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **k: titles.append(text) or set_title(self, text, **k))
    for name, more in (("with", ["--nam-sparsity", "0.1"]), ("without", [])):
        assert main(["train", "--cfg", "yolov8n-nam.yaml", "--epochs", "3", "--name", name, *settings, *more]) == 0
    with_penalty, without = (mean_scale(tmp_path / name / "weights/last.pt") for name in ("with", "without"))
    assert with_penalty < without - 0.01
    header, *rows = (line.split(",") for line in (tmp_path / "with/results.csv").read_text().splitlines())
    column = [float(row[header.index("train/nam_loss")]) for row in rows]
    assert column == sorted(column, reverse=True)
    assert column[-1] > 0
    assert {len(row) for row in rows} == {len(header)}
    assert "val/nam_loss" in header
    assert (tmp_path / "with/results.png").exists()
    assert titles.count("train/nam_loss") == titles.count("val/nam_loss") == 1
    assert "nam_loss" not in (tmp_path / "without/results.csv").read_text()

    class Cut(DetectionTrainer):
        def save_model(self):
            super().save_model()
            raise KeyboardInterrupt

    overrides = {"model": "yolov8n-nam.yaml", "data": str(small_coco), "epochs": 2, "imgsz": 64, "batch": 8}
    settings = {**overrides, "device": "cpu", "plots": False, "project": str(tmp_path), "name": "cut"}
    cut = Cut(overrides=settings, prepared=Prepared(nam_sparsity=0.01))
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert main(["train", "--resume", str(tmp_path / "cut/weights/last.pt")]) == 0
    header, *rows = (line.split(",") for line in (tmp_path / "cut/results.csv").read_text().splitlines())
    assert [float(row[header.index("train/nam_loss")]) > 0 for row in rows] == [True, True]
