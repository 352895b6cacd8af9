"""What becomes of a model with attention besides training: averages, dtypes, memory formats, compiling, fusing.

Each model holds a layer as a row, and in blocks at all three places.
"""

import copy
import math

import pytest
import torch
import yaml
from support import enliven
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace
from ultralytics.utils.torch_utils import ModelEMA

import yolo_attn
from yolo_attn import layers
from yolo_attn.engine.export.verify import image
from yolo_attn.engine.training.trainer import DetectionTrainer

OPTIONS = {"NAM spatial": {"spatial": True, "grid": [6, 6]}, "GAM grouped": {"ratio": 2, "groups": 2}}
every_layer = pytest.mark.parametrize("name", [*layers.__all__, *OPTIONS])


def described(name):
    layer, options = name.split()[0], OPTIONS.get(name, {})
    rows = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, f"C2f_{layer}", [32, True, {"where": "end", **options}]],
        [-1, 1, layer, [options] if options else []],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, f"C2f_{layer}", [64, True, {"where": "pre_bn", **options}]],
        [-1, 1, f"C3_{layer}", [64, True, {"where": "out", **options}]],
    ]
    return {"nc": 4, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc"]]]}


def build(name):
    torch.manual_seed(0)
    return tasks.DetectionModel(described(name), verbose=False)


def close(found, expected, tolerance):
    """Whether boxes and scores agree, as a share of each channel's largest value."""
    largest = expected.float().abs().amax((0, 2), keepdim=True)
    torch.testing.assert_close(found.float() / largest, expected.float() / largest, rtol=0, atol=tolerance)


def batch(size=8):
    boxes = torch.rand(size, 4, generator=torch.Generator().manual_seed(3)) * 0.4 + 0.3
    return {
        "img": image((size, 3, 64, 64)),
        "cls": torch.ones(size, 1),
        "batch_idx": torch.arange(float(size)),
        "bboxes": boxes,
    }


def step(model, optimizer):
    optimizer.zero_grad()
    loss, _ = model(batch())
    loss.sum().backward()
    optimizer.step()


@pytest.mark.integration
@every_layer
def test_average_follows_the_training(name):
    """The average of parameters and running statistics is Ultralytics' formula, attention included."""
    model = build(name).train()
    model.args = IterableSimpleNamespace(**DEFAULT_CFG_DICT)
    ema, optimizer = ModelEMA(model, decay=0.5, tau=1), torch.optim.SGD(model.parameters(), 0.01)
    expected = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
    for update in (1, 2):
        step(model, optimizer)
        ema.update(model)
        decay = 0.5 * (1 - math.exp(-update))
        expected = {key: decay * value + (1 - decay) * model.state_dict()[key] for key, value in expected.items()}
    state = ema.ema.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, msg=key)
    moved = [key for key in expected if "attention" in key and not torch.equal(expected[key], model.state_dict()[key])]
    assert moved or name == "SimAM"
    x = image((1, 3, 64, 64))
    with torch.inference_mode():
        close(copy.deepcopy(ema.ema).half().float()(x)[0], ema.ema(x)[0], 0.02)


@every_layer
def test_dtypes_and_memory_formats_agree(name):
    model, x = enliven(build(name)), image((1, 3, 64, 64))
    with torch.inference_mode():
        expected = model(x)[0]
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        close(last(x.contiguous(memory_format=torch.channels_last))[0], expected, 1e-4)
        halved = copy.deepcopy(model).half()
        assert {p.dtype for p in halved.parameters()} <= {torch.float16}
        close(halved(x.half())[0], expected, 0.05)
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                close(model(x)[0], expected, 0.2 if dtype == torch.bfloat16 else 0.05)


@pytest.mark.integration
@every_layer
def test_training_step_under_autocast(name):
    """bfloat16 on the CPU: every parameter of attention that gets a gradient in float32 gets one, finite and alike."""
    gradients = []
    for enabled in (False, True):
        model = build(name).train()
        model.args = IterableSimpleNamespace(**DEFAULT_CFG_DICT)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _ = model(batch())
        loss.sum().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert gradients[0].keys() == gradients[1].keys()
    assert all(gradient.isfinite().all() for gradient in gradients[1].values())
    exact, rough = (torch.cat([g.flatten() for g in part.values()]) for part in gradients)
    assert torch.nn.functional.cosine_similarity(exact, rough, 0) > 0.9


@every_layer
def test_fuse_and_info(name):
    model, x = enliven(build(name)), image((1, 3, 64, 64))
    kind = getattr(layers, name.split()[0])
    count = sum(isinstance(m, kind) for m in model.modules())
    _, parameters, _, flops = model.info(verbose=True, imgsz=64)
    assert parameters == sum(p.numel() for p in model.parameters())
    assert flops > 0
    with torch.inference_mode():
        expected = model(x)[0]
        fused = copy.deepcopy(model).fuse(verbose=False)
        assert sum(isinstance(m, kind) for m in fused.modules()) == count
        assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) < sum(
            isinstance(m, nn.BatchNorm2d) for m in model.modules()
        )
        close(fused(x)[0], expected, 1e-3)
        assert 0 < fused.info(verbose=True, imgsz=64)[3] <= flops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NAM spatial", "GAM"])
def test_compiled_training(name, small_coco, tmp_path):
    """`compile=True`: its checkpoint is an ordinary one, for this package's safe reader too."""
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(described(name)))
    settings = {"epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "compile": True}
    overrides = {**settings, "model": str(tmp_path / "model.yaml"), "data": str(small_coco), "project": str(tmp_path)}
    trainer = DetectionTrainer(overrides=overrides)
    trainer.train()
    assert hasattr(trainer.model, "_orig_mod")
    x = image((1, 3, 64, 64))
    with torch.inference_mode():
        found, expected = yolo_attn.load_safe(trainer.best)(x)[0], YOLO(trainer.best).model.eval()(x)[0]
    assert torch.equal(found, expected)
