"""The examples run as they are started in their first lines, and leave what they promise."""

import re

import pytest
from support import ROOT, script
from tiers import later

PRINTED = {
    "own_layer": r"^model\.2\.m\.0\.cv2\.attention: factors from .*\nmodel\.5: factors from 0\.[45]\d+ to 0\.[56]\d+$",
    "own_trainer": r"^[1-9]\d* grey batches; COCO AP 0\.\d{3}$",
    "plain_python": r"^COCO AP 0\.\d{3}, AP50 0\.\d{3}\n.*'triangle'.*'circle'.*'star'",
}
"""What each prints, by its file's name."""


def test_every_example_is_here():
    assert {file.stem for file in (ROOT / "examples").glob("*.py")} == {*PRINTED, "my_layers"}
    for name in PRINTED:
        assert f"python examples/{name}.py" in (ROOT / f"examples/{name}.py").read_text()


@pytest.mark.smoke
@pytest.mark.parametrize("name", later(PRINTED, ["own_layer"]))
def test_an_example_runs(name, small_coco, tmp_path):
    result = script(f"examples/{name}.py", f"data={small_coco}", "epochs=1", "plots=False", cwd=tmp_path)
    assert re.search(PRINTED[name], result.stdout, re.MULTILINE)
    assert (tmp_path / "runs/train/weights/best.pt").is_file()
