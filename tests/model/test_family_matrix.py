"""Every model YAML that Ultralytics ships, with attention inserted into it and with attention inside its blocks."""

import functools

import pytest
import torch
import ultralytics
from families import OPTIONS, YAMLS, batch, blocks, build, builds, inserted, load, parse, rows, scales, swapped
from ultralytics.nn import tasks

from yolo_attn import layers
from yolo_attn.model.rows import RowError

LAYERS = {name: getattr(layers, name) for name in layers.__all__}
PAPERS = ["SimAM", "NAM", "GAM"]
OTHERS = [layer for layer in LAYERS if layer not in PAPERS]
NAMES = [name for name in YAMLS if builds(name)]
LARGE = {
    *("yolov3", "yolov3-spp", "yolov9c", "yolov9c-seg", "yolov9e", "yolov9e-seg", "yolov9m"),
    *("yolov10b", "yolov10l", "yolov10m", "yolov10x", "yolov8-cls-resnet50", "yolov8-cls-resnet101"),
    *("rtdetr-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"),
}
"""YAMLs whose smallest scale has over 15 million parameters; they learn in the slow tests, with one layer each."""

DETECTORS = ("yolov5", "yolov6", "yolov8", "yolo11", "yolo12", "yolo26")
"""YAMLs whose scales the quick tests look at."""


def rotated(values, name, step=0):
    """One of the values for each YAML, so that all of them occur."""
    return values[(list(YAMLS).index(name) + step) % len(values)]


def at_rows(name, scale, layer):
    return inserted(load(name, scale), [layer], [layer])


def in_blocks(name, scale, layer):
    return swapped(load(name, scale), layer, **OPTIONS.get((name, layer), {}))


def everywhere(name, scale):
    """All blocks swapped, and rows of the papers' three layers in the backbone, of another in the neck."""
    step = scales(name).index(scale)
    model = in_blocks(name, scale, rotated(list(LAYERS), name, step))
    return inserted(model, PAPERS, [rotated(OTHERS, name, step)])


def attention_of(module):
    return [m for m in module.modules() if isinstance(m, tuple(LAYERS.values()))]


def count(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def shapes(module):
    """Keys and shapes of a module's own tensors, the attention apart."""
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items() if "attention." not in key}


def settings(module):
    """What a module was reported in numbers and words (classes, bins, end2end); its place in the model apart."""
    reported = {key: value for key, value in vars(module).items() if isinstance(value, (bool, int, float, str))}
    return {key: value for key, value in reported.items() if key not in ("i", "np", "type")}


def check_layers(base, built, model):
    """The built layers are the base's, tensor for tensor, and the attention that rows of the model dictionary name."""
    named = [row[2].rpartition("_") for row in rows(model)]
    assert [{type(m) for m in attention_of(layer)} for layer in built] == [
        {LAYERS[attention]} if attention in LAYERS else set() for _, _, attention in named
    ]
    kept = [layer for layer, (_, _, name) in zip(built, named, strict=True) if type(layer) is not LAYERS.get(name)]
    assert [type(layer) for layer in kept] == [type(layer) for layer in base]
    assert [shapes(layer) for layer in kept] == [shapes(layer) for layer in base]
    assert settings(kept[-1]) == settings(base[-1])
    assert count(built) == count(base) + count(*attention_of(built))


@functools.lru_cache(maxsize=1)
def plain(name):
    return build(name, load(name, scales(name)[0]))


def check_learning(name, model):
    """The model trains: its task's own loss reaches and passes every attention layer, down to the first weights."""
    base, built = plain(name), build(name, model)
    check_layers(base.model, built.model, model)
    assert torch.equal(base.stride, built.stride)

    anew, passed = [], []

    def watch(m, inputs):
        options = {} if m in set(built.model) else OPTIONS.get((name, type(m).__name__), {})
        anew.append(type(m)(inputs[0].shape[1], **options))
        inputs[0].register_hook(lambda gradient: passed.append(bool(gradient.isfinite().all())))

    for m in attention_of(built):
        m.register_forward_pre_hook(watch)
    loss = built.loss(batch(name, model))[0].sum()
    assert loss.isfinite()
    assert len(anew) == len(attention_of(built)) > 0
    assert count(built) == count(base) + count(*anew)

    loss.backward()
    first = next(p for p in built.parameters() if p.ndim == 4)
    for p in (first, *(p for m in attention_of(built) for p in m.parameters())):
        assert p.grad is not None
        assert p.grad.isfinite().all()
    assert first.grad.any()
    assert passed == [True] * len(anew)


def test_table_says_what_ultralytics_builds(record_testsuite_property):
    """What it lists as too new fails in Ultralytics' own parser; the other tests build all the rest."""
    refused = [name for name in YAMLS if not builds(name)]
    for name in refused:
        with pytest.raises((KeyError, TypeError), match=r"^'\w+'$|positional arguments"), torch.device("meta"):
            tasks.parse_model.__wrapped__(load(name, scales(name)[0]), 3, verbose=False)
    record_testsuite_property("ultralytics", ultralytics.__version__)
    record_testsuite_property("refused", " ".join(refused))


FEW = [(name, rotated(scales(name)[1:] or scales(name), name)) for name in NAMES if name in LARGE or name in DETECTORS]
MORE = [(name, scale) for name in NAMES for scale in scales(name) if (name, scale) not in FEW]


@pytest.mark.integration
@pytest.mark.parametrize(("name", "scale"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)])
def test_scales(name, scale):
    model = everywhere(name, scale)
    built = parse(model)
    assert all(p.is_meta for p in built.parameters())
    check_layers(parse(load(name, scale)), built, model)


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in NAMES]
)
def test_models_learn(name):
    assert (count(plain(name)) > 15e6) == (name in LARGE)
    check_learning(name, everywhere(name, scales(name)[0]))


VARIANTS = [(name, put) for name in NAMES for put in (at_rows, in_blocks) if put is at_rows or blocks(name)]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "put"), VARIANTS)
def test_every_layer(name, put, layer):
    scale = scales(name)[0]
    model = put(name, scale, layer)
    if name in LARGE:
        check_layers(parse(load(name, scale)), parse(model), model)
    else:
        check_learning(name, model)


@pytest.mark.parametrize(("name", "layer"), OPTIONS)
def test_layer_that_needs_options_says_so(name, layer):
    with pytest.raises(RowError, match=r"ratio=4 does not divide channels=90; allowed: 1, 2, 3, 5, 6, "):
        parse(swapped(load(name, ""), layer))
