"""Charts of a report, by the texts in them."""

import json
import re

import pytest
from studies import write_study

from yolo_attn.compare.analysis.verdicts import results_of
from yolo_attn.compare.report.charts import draw_charts
from yolo_attn.compare.study_folder import read_study


def numbers_on_axes(folder, parameters):
    """The numbers that stand on the axes of the chart of parameters, millions."""
    write_study(folder, {name: {0: 0.4, 1: 0.4001, 2: 0.4002} for name in parameters})
    costs = {name: {"parameters": number, "gflops": 1.0, "latency_ms": 10.0} for name, number in parameters.items()}
    (folder / "costs.json").write_text(json.dumps({"imgsz": 64, "variants": costs}))
    (svg,) = [svg for caption, svg in draw_charts(results_of(read_study(folder))) if "parameters" in caption]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return [float(text) for text in texts if re.fullmatch(r"[\d.]+", text)], texts


@pytest.mark.parametrize(
    "parameters", [[3157200, 3157200, 3157400], [3157200], [3157200, 3157200], [3157200, 99157200]]
)
def test_ticks_are_the_numbers_themselves(tmp_path, parameters):
    named = {f"v{n}" if n else "base": number for n, number in enumerate(parameters)}
    ticks, texts = numbers_on_axes(tmp_path, named)
    across = [tick for tick in ticks if tick * 1e6 < 1.3 * max(parameters) and tick < 39]
    if max(parameters) < 4e6:
        assert len(across) in range(3, 8)
        assert all(2.5 < tick < 4 for tick in across)
    assert any(39.5 < tick < 40.5 for tick in ticks)
    assert not [text for text in texts if re.search(r"^[+−]|e[+−]?\d", text)]
