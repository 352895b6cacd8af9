"""The measuring script of the data path on a tiny set."""

import json

import pytest
from support import script

pytestmark = pytest.mark.integration

MEASURES = {"index", "dataset", "workers", "throughput", "growth", "evaluation"}


def test_every_measure_gives_its_rows(tmp_path):
    script("benchmarks/data.py", "--smoke", "--out", tmp_path / "data.json", cwd=tmp_path)
    report = json.loads((tmp_path / "data.json").read_text())
    assert {row["measure"] for row in report["rows"]} == MEASURES
    found = {f"{row['measure']} {row['case']}": row["values"] for row in report["rows"]}
    assert len(found) == len(report["rows"])
    assert all(found.values())
    assert found["evaluation largest difference of the 12 numbers"][0] <= 1e-9
    assert report["versions"]["ultralytics"]


def test_folder_without_data(tmp_path):
    result = script("benchmarks/data.py", tmp_path, cwd=tmp_path, ends=2)
    assert "expected one that benchmarks/generate.py wrote" in result.stderr
