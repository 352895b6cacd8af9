"""The twenty traps that Ultralytics sets to plug-ins, each with a test that carries its number."""

import re
from pathlib import Path

TRAPS = {
    1: "export drops attention inside blocks",
    2: "pretrained weights are lost or land in the wrong row",
    3: "workers of a multi-GPU run do not know the layers",
    4: "another Detect head than the base's",
    5: "resuming drops trainer, penalty or columns",
    6: "SimAM overflows in half precision",
    7: "COCO ids and crowds are not COCO's",
    8: "RT-DETR without parameters right after it is built",
    9: "a checkpoint does not load in a fresh process, safe loading on or off",
    10: "the penalty's gradient depends on the batch size",
    11: "files appear in the user's folder",
    12: "channels_last changes the output",
    13: "a scale becomes a matrix optimizer's",
    14: "the scale letter is read from a folder's name",
    15: "a from other than -1 gives wrong channels",
    16: "NaN at 1×1 or without scales",
    17: "a model that ran cannot be copied",
    18: "an extra loss is not plotted",
    19: "rows of results.csv without validation have other columns",
    20: "surprise network or pip",
}


def test_each_trap_has_its_test():
    marked = {
        int(n)
        for f in Path(__file__).parent.rglob("test_*.py")
        for n in re.findall(r"mark\.trap\((\d+)\)", f.read_text())
    }
    assert marked == set(TRAPS)
