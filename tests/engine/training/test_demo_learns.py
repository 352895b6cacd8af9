"""The demo set is learnt within the demo's time."""

import json

import pytest
from support import script


@pytest.mark.slow
def test_demo_is_learnt(tmp_path):
    script("scripts/train_det.py", "--cfg", "yolov8n-gam.yaml", "--device", "cpu", cwd=tmp_path, timeout=900)
    run = tmp_path / "runs/detect/train"
    header, first, *_ = (line.split(",") for line in (run / "results.csv").read_text().splitlines())
    assert float(first[header.index("metrics/COCO_AP50")]) < 0.1
    assert json.loads((run / "metrics.json").read_text())["AP50"] > 0.5
