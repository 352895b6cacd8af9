"""`yolo-attn layers` lists what the layers are."""

import re
import sys

import pytest
from torch import nn

from yolo_attn import layers
from yolo_attn.cli import main
from yolo_attn.cli.layers import cost
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.registry import LAYERS


@pytest.mark.parametrize("columns", [80, 120])
def test_every_layer_with_paper_options_and_cost(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["layers"]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines()[2:-4])) <= columns
    flat = re.sub(r"\s+", " ", output)
    for name in layers.__all__:
        parameters = sum(p.numel() for p in getattr(layers, name)(256).parameters())
        assert re.search(rf"\b{name} {parameters:,} [\d,.]+ ", flat), name
    for text in ("Yang et al., ICML 2021", "e_lambda: 0.0001", "spatial: false, grid: null", "channel_act: sigmoid"):
        assert text in flat
    for block in UNITS:
        assert block in output


def test_cost_is_what_can_be_counted_by_hand():
    """GAM: 1×1 and 7×7 convolutions 256 → 64 → 256, a multiply and an add for each weight and pixel."""
    pixels, weights = 40 * 40, 2 * 256 * 64 * (1 + 49)
    parameters, flops = cost(layers.GAM)
    assert parameters == weights + 2 * (64 + 256) + 2 * (64 + 256)  # biases; scales and shifts of two norms
    assert flops == pytest.approx(2 * pixels * weights, rel=0.01)
    assert cost(layers.SimAM) == (0, 10 * 256 * pixels)  # reported by the layer


@pytest.mark.parametrize("arguments", [["layers", "--import"], ["--import", "layers"]], ids=["after", "before"])
def test_layer_of_the_users_own(arguments, here, capsys):
    (here / "own_for_table.py").write_text(
        "import torch, yolo_attn\n"
        "@yolo_attn.register_layer\n"
        "class Mine(torch.nn.Conv2d):\n"
        "    'Halve everything.'\n"
        "    def __init__(self, channels, *, bias=True):\n"
        "        super().__init__(channels, channels, 1, bias=bias)\n"
    )
    try:
        arguments.insert(arguments.index("--import") + 1, "own_for_table")
        assert main(arguments) == 0
        output = capsys.readouterr().out
        assert re.search(r"^Mine +65,792 +209\.72 +bias: true\n +Halve everything\.$", output, re.MULTILINE), output
        assert issubclass(LAYERS["Mine"], nn.Conv2d)
    finally:
        del LAYERS["Mine"], sys.modules["own_for_table"]


def test_further_arguments_are_a_mistake(refused):
    assert refused("layers", "all") == "'all': unknown to layers; see yolo-attn layers --help"
