"""Every layer, as a row and in every block and place where it is allowed, in every format that is verified.

In one small model all variants of a layer stand side by side on one map, and the head sees all that they give, so that
each of them matters to the output, which is checked too. The quick run has some layers and few blocks in one model,
a map of the head for each layer, and one layer in all blocks.
"""

import pytest
import torch
from support import enliven
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn import layers
from yolo_attn.engine.export.exporter import export
from yolo_attn.engine.export.verify import RUNTIMES

BLOCKS = {
    "C2f": [[32, True], "end", "pre_bn", "out"],
    "C3": [[32, True], "end", "pre_bn", "out"],
    "C3k2": [[32, True], "end", "pre_bn", "out"],
    "C3k2 with PSABlock": [[128, False, 0.5, True], "end"],
    "C2fCIB": [[32, True], "end", "pre_bn", "out"],
    "A2C2f": [[64, True, 1], "end", "out"],
    "A2C2f with C3k": [[64, False, 1], "pre_bn"],
    "RepNCSPELAN4": [[32, 32, 16, 1], "end", "pre_bn", "out"],
    "C3Ghost": [[32, True], "end", "out"],
    "RepC3": [[32], "end", "out"],
    "HGBlock": [[16, 32, 3, False, True], "end", "pre_bn", "out"],
    "ResNetLayer": [[32, 8, 1, False, 1], "end", "pre_bn", "out"],
    "Bottleneck": [[32], "end", "pre_bn", "out"],
}
"""Arguments and places of each block."""
QUICK_BLOCKS = ("C2f", "C3k2 with PSABlock", "A2C2f")

OPTIONS = {"NAM": {}, "NAM spatial": {"spatial": True, "grid": [12, 20]}, "GAM grouped": {"ratio": 2, "groups": 2}}
QUICK_LAYERS = ("SimAM", "NAM", "NAM spatial", "GAM", "CBAM")
LAYERS = [*QUICK_LAYERS, "GAM grouped", *(name for name in layers.__all__ if name not in QUICK_LAYERS)]
FORMATS = ("onnx", "onnx dynamic", "torchscript", "openvino")
MORE_FORMATS = ("torchscript dynamic", "openvino dynamic")
ALL = tuple(BLOCKS)


def case(names, blocks, *fmt, quick):
    how = "all" if blocks == ALL else "few"
    marks = () if quick else pytest.mark.slow
    return pytest.param(names, blocks, *fmt, marks=marks, id="-".join([*names, how, *fmt]))


EXPORTS = [
    *(case(QUICK_LAYERS, QUICK_BLOCKS, fmt, quick=True) for fmt in FORMATS),
    *(case(QUICK_LAYERS, QUICK_BLOCKS, fmt, quick=False) for fmt in MORE_FORMATS),
    *(case((name,), ALL, fmt, quick=(name, fmt) == ("NAM", "onnx")) for name in LAYERS for fmt in FORMATS),
]
MODELS = [
    case(QUICK_LAYERS, QUICK_BLOCKS, quick=True),
    *(case((name,), ALL, quick=name == "NAM") for name in LAYERS),
]


def described(names, blocks):
    """A model with rows of the layers, and a row of each variant of the blocks, on the same map of stride 4."""
    first = {"where": "pre_bn" if blocks == ALL else "end", **OPTIONS.get(names[0], {})}
    rows = [
        [-1, 1, f"TorchVision_{names[0].split()[0]}", [24, "mobilenet_v2", None, True, 16, False, first]],
        [-1, 1, "Conv", [32, 3, 1]],
    ]
    maps = []
    for name in names:
        layer, options = name.split()[0], OPTIONS.get(name, {})
        begins = len(rows)
        rows.append([1, 1, layer, [options] if options else []])
        for block in blocks:
            arguments, *places = BLOCKS[block]
            kind = f"{block.split()[0]}_{layer}"
            rows += [[1, 1, kind, [*arguments, {"where": where, **options}]] for where in places]
        rows += [
            [[*range(begins, len(rows))], 1, "Concat", [1]],
            [-1, 1, "Conv", [32, 1, 1]],
            [-1, 1, "Conv", [32, 3, 2]],
        ]
        maps.append(len(rows) - 1)
    return {"nc": 4, "backbone": rows, "head": [[maps, 1, "Detect", ["nc"]]]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Checkpoint and model of a layer, made once."""
    made = {}

    def make(*of):
        if of not in made:
            yolo = YOLO("yolov8n.yaml")
            torch.manual_seed(0)
            yolo.model = enliven(tasks.DetectionModel(described(*of), verbose=False))
            file = tmp_path_factory.mktemp("layer") / "model.pt"
            yolo.save(file)
            made[of] = file, YOLO(file).model.eval()
        return made[of]

    return make


def relative(found, expected):
    return ((found - expected).abs() / expected.abs().amax((0, 2), keepdim=True).clamp(min=1e-3)).max().item()


@pytest.mark.integration
@pytest.mark.trap(1)
@pytest.mark.parametrize(("names", "blocks", "fmt"), EXPORTS)
def test_exported_file_does_what_the_model_does(names, blocks, fmt, checkpoint):
    file, model = checkpoint(names, blocks)
    fmt, _, dynamic = fmt.partition(" ")
    settings = {"imgsz": 64, "dynamic": bool(dynamic)}
    written = export(str(file), fmt, settings, trust=True)  # it has more maps than the models that are read safely
    for shape in [(3, 3, 96, 32), (1, 3, 64, 64)] if dynamic else [(1, 3, 64, 64)]:
        x = torch.rand(shape)
        with torch.inference_mode():
            expected = model(x)[0]
        (found,) = RUNTIMES[fmt](written, x)
        assert relative(torch.from_numpy(found), expected) < 1e-3


@pytest.mark.integration
@pytest.mark.parametrize(("names", "blocks"), MODELS)
def test_every_one_of_them_matters(names, blocks, checkpoint):
    """Without one attention layer of a variant the output is another by more than the tests above let pass."""
    _, model = checkpoint(names, blocks)
    kinds = tuple(getattr(layers, name.split()[0]) for name in names)
    attention = {path: m for path, m in model.named_modules() if isinstance(m, kinds)}
    rows = {int(path.split(".")[1]) for path in attention}
    assert len(rows) == 1 + len(names) * (1 + sum(len(BLOCKS[block]) - 1 for block in blocks))
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(x)[0]
        for path, module in attention.items():
            module.forward = lambda z: z
            assert relative(model(x)[0], expected) > 2e-3, path
            del module.forward
        assert torch.equal(model(x)[0], expected)
