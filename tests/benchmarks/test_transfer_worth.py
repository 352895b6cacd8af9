"""The measuring script of transfers on a tiny set: each start is measured once, and what there is is drawn."""

import csv
import sys

import pytest
import torch
from support import ROOT, script
from ultralytics.nn.tasks import DetectionModel

STARTS = [("none", "none", "ours", "no"), ("GAM", "neck", "ours", "yes"), ("GAM", "neck", "stock", "no")]


@pytest.fixture
def base(small_coco, tmp_path):
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.names = {0: "circle", 1: "square", 2: "star"}
    torch.save({"model": model, "train_args": {"imgsz": 64}}, tmp_path / "base.pt")
    return ["--weights", "base.pt", "--data", str(small_coco), "--imgsz", "64", "--epochs", "1", "--seeds", "0"]


def measured(folder):
    with (folder / "measured/transfer.csv").open() as file:
        columns = ("layer", "place", "load", "identity_init", "epoch")
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


@pytest.mark.integration
@pytest.mark.parametrize("start", STARTS[2:])
def test_a_start_is_validated_and_trained(start, base, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/transfer.py", "stock", *base])
    import transfer

    monkeypatch.setattr(transfer, "starts", lambda *_: [transfer.Start(*start, "0")])
    transfer.main()
    assert measured(tmp_path) == [(*start, "0"), (*start, "1")]


@pytest.mark.slow
def test_both_transfers_are_measured_once_and_drawn(base, tmp_path):
    for _ in range(2):
        result = script("benchmarks/transfer.py", "stock", *base, "--out", "measured", cwd=tmp_path)
        assert measured(tmp_path) == [(*start, epoch) for start in STARTS for epoch in ("0", "1")]
    result = script("benchmarks/transfer.py", "plot", "--out", "measured", cwd=tmp_path)
    assert "| GAM | neck | stock | no | 0 |" in result.stdout
    assert {f.name for f in (tmp_path / "measured").glob("*.png")} == {"identity-init.png", "transfer.png"}
