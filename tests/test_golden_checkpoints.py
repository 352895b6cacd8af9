"""Former checkpoints load, and give the numbers that they gave then; tools/golden_checkpoints.py made them."""

import json
import tarfile

import pytest
import torch
from support import run_python
from ultralytics import YOLO

from tools.golden_checkpoints import ARCHIVE, BLOCKS, golden_numbers
from yolo_attn import layers, load_safe, networks
from yolo_attn.layers.common import AttentionLayer
from yolo_attn.model.blocks import UNITS

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Float noise: numbers are kept to six digits, and processors sum in different orders."""

with tarfile.open(ARCHIVE) as tar:
    MADE = {
        entry.name.partition("/")[0]: json.load(tar.extractfile(entry))
        for entry in tar
        if entry.name.endswith("made.json")
    }
EVERY = [(folder, name) for folder, made in MADE.items() for name in made["numbers"]]
ATTENDED = [(folder, name) for folder, name in EVERY if name not in networks.__all__]
LATER = {"A2C2f", "TorchVision"}
"""Blocks that Ultralytics 8.3.0 did not have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The archive, unpacked."""
    home = tmp_path_factory.mktemp("golden")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(home, filter="data")
    return home


def test_every_layer_and_block_has_its_checkpoints():
    found = {made: {name.partition(" ")[0] for name in content["numbers"]} for made, content in MADE.items()}
    assert {*BLOCKS, "Stage"} == set(UNITS)
    assert set().union(*found.values()) == {*layers.__all__, *UNITS, *networks.__all__}
    assert found["networks-8.3.0"] == found["networks-8.4.190"] == set(networks.__all__)
    assert found["ultralytics-8.3.0"] == found["ultralytics-8.4.190"] - LATER


@pytest.mark.parametrize("load", [lambda file: YOLO(file).model, load_safe], ids=["YOLO", "load_safe"])
@pytest.mark.parametrize(("made", "name"), EVERY, ids=["-".join(each) for each in EVERY])
def test_a_checkpoint_gives_its_numbers(made, name, load, folder):
    numbers = golden_numbers(load(folder / made / f"{name}.pt"))
    torch.testing.assert_close(torch.tensor(numbers), torch.tensor(MADE[made]["numbers"][name]), **TOLERANCE)


@pytest.mark.integration
@pytest.mark.parametrize(("made", "name"), ATTENDED, ids=["-".join(each) for each in ATTENDED])
def test_the_numbers_depend_on_each_attention_layer(made, name, folder):
    """A tenth more of its output shows at ten times the tolerance, a tenth more of its parameters at the tolerance."""
    model = load_safe(folder / made / f"{name}.pt")
    attention = [module for module in model.modules() if isinstance(module, AttentionLayer)]
    assert attention
    numbers = torch.tensor(golden_numbers(model))
    for layer in attention:
        gain, state = layer.gain, {key: value.clone() for key, value in layer.state_dict().items()}
        layer.gain = 1.1 * gain
        tenfold = {key: 10 * value for key, value in TOLERANCE.items()}
        assert not torch.allclose(torch.tensor(golden_numbers(model)), numbers, **tenfold)
        layer.gain = gain
        if state:
            layer.load_state_dict({key: 1.1 * value for key, value in state.items()})
            assert not torch.allclose(torch.tensor(golden_numbers(model)), numbers, **TOLERANCE)
            layer.load_state_dict(state)


@pytest.mark.integration
def test_former_module_paths_load_without_this_package_imported(folder):
    file = folder / "yolo_attn-c68ed7a/C2f.pt"
    assert b"yolo_attn.plugin.blocks" in file.read_bytes()
    code = f"import torch; print(type(torch.load({str(file)!r}, weights_only=False)['model']).__name__)"
    assert run_python(code, folder).stdout.strip() == "ClassificationModel"
