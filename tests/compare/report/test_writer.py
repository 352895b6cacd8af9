"""Reports of all kinds of comparisons: what they say, and that names stay text."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from pages import Page
from studies import VERSIONS, write_study

from yolo_attn.compare.report.writer import write_report
from yolo_attn.compare.study_folder import read_study, run_folder

HOSTILE = '<script>alert("1")</script>|`x`$_{y}$ & \x07 \u202e ünï 注意'


def report(study):
    """report.html read, and report.md."""
    file = write_report(study).page
    text = file.read_text(encoding="utf-8")
    return Page(text), file.with_suffix(".md").read_text(encoding="utf-8")


def scores(gain=0.0, seeds=3):
    """AP of a base and of one variant that is above it by a gain, with a little luck."""
    luck = np.random.default_rng(1).normal(0, 0.001, seeds)
    return {
        "base": {seed: 0.30 + seed / 100 for seed in range(seeds)},
        "gam": {seed: 0.30 + seed / 100 + gain + luck[seed] for seed in range(seeds)},
    }


WIDE = {0: 0.32, 1: 0.331, 2: 0.339}
NO_GAIN = "There is no evidence that gam gained AP over base."

ANSWERS = {
    "gain": (
        scores(0.02),
        "Yes, on this budget: gam gained AP over base.",
        r"▲ gain: \+[12]\.\d\d ± 0\.\d\d AP, 3 seeds",
    ),
    "loss": (scores(-0.02), f"{NO_GAIN} gam lost.", r"▼ loss: −[12]\.\d\d ± 0"),
    "no evidence": (scores(), NO_GAIN, r"● no evidence of a gain: [+−]0\.\d\d ± 0"),
    "one seed": (
        scores(0.02, seeds=1),
        "No verdict: there is no spread over seeds to judge AP by.",
        r"○ no verdict: \+[12]\.\d\d AP, 1 seed\b",
    ),
    "no common seed": (
        {**scores(), "nam": {0: "broke", 1: None, 2: None}},
        f"{NO_GAIN} There is no verdict on nam.",
        "○ no verdict: no seed has finished for both",
    ),
    "zeros": (
        {"base": {0: 0.0, 1: 0.0}, "gam": {0: 0.0, 1: 0.0}},
        "No verdict: AP is 0 throughout.",
        "○ no verdict: 0.00 ± 0.00 AP",
    ),
    "base alone": (
        {"base": {0: 0.3, 1: 0.31}},
        "Only base was trained: there is nothing to compare it with.",
        "They do not show:",
    ),
    "less than a wider base": (
        {**scores(0.02), "wide": {0: 0.34, 1: 0.351, 2: 0.359}},
        "gam gained AP over base, but lost against a base of equal cost.",
        "gam compared with wide:",
    ),
    "no more than a wider base": (
        {**scores(0.02), "wide": WIDE},
        "gam gained AP over base, but not over a base of equal cost.",
        "gam compared with wide:",
    ),
    "more than a wider base": (
        {**scores(0.02), "wide": {0: 0.302, 1: 0.31, 2: 0.321}},
        "Yes, on this budget: gam gained AP over base, and over a base of equal cost.",
        "gam compared with wide:",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_the_report_begins_with_the_answer(case, tmp_path):
    found, answer, text = ANSWERS[case]
    page, markdown = report(write_study(tmp_path, found, controls={"wide": "gam"} if "wide" in found else {}))
    heading = page.text.index("Did attention help base?", page.text.index("Did attention") + 1)
    assert heading < page.text.index(answer) < page.text.index("What these numbers show")
    assert f"**{answer}**" in markdown
    assert re.search(text, " ".join(page.text.split()))
    assert ("\nVerdicts\n" in page.text) == ("## Verdicts" in markdown) == (case != "base alone")
    assert ("AP is 0 throughout: so short a training shows nothing." in page.text) == (case == "zeros")


def test_numbers_are_those_of_the_seeds(tmp_path):
    found = {"base": {0: 0.30, 1: 0.32, 2: 0.34}, "gam": {0: 0.33, 1: 0.34, 2: 0.38}}
    page, markdown = report(write_study(tmp_path, found))
    verdicts, of_scores, differences, *_ = page.tables
    # differences 3, 2, 4: mean 3, standard deviation 1; t(0.975, 2) = 4.3027, p = 0.0351 by tables of Student's t
    assert verdicts[1][:6] == ["gam", "▲ gain", "+3.00 ± 2.48", "–", "0.035", "3"]
    assert of_scores[1:] == [
        ["base", "3", "32.00 ± 2.00", "52.00 ± 2.00"],
        ["gam", "3", "35.00 ± 2.65", "55.00 ± 2.65"],
    ]
    assert differences[1][1] == "+3.00 ± 2.48"
    assert "| gam | base | ▲ gain | +3.00 ± 2.48 | – | 0.035 | 3 |" in markdown


def test_a_line_of_results_for_each_training(tmp_path):
    found = {"base": {0: 0.3, 1: None}, "gam": {0: "it broke", 1: 0.4}}
    write_report(write_study(tmp_path, found, labels={"gam": HOSTILE}))
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], row["seed"], row["AP"], row["error"]) for row in rows] == [
        ("base", "0", "0.3", ""),
        ("base", "1", "", "not finished"),
        ("gam", "0", "", "it broke"),
        ("gam", "1", "0.4", ""),
    ]
    assert list(rows[0])[:7] == ["variant", "label", "layer", "at", "options", "control_for", "seed"]
    assert rows[2]["label"] == HOSTILE
    assert rows[0]["torch"] == VERSIONS["torch"]
    assert [row["evaluator"] for row in rows] == ["hotcoco", "", "", "hotcoco"]


def test_missing_and_failed_trainings_are_listed_beside_the_others(tmp_path):
    found = {
        "base": {0: 0.30, 1: 0.31, 2: 0.32},
        "gam": {0: 0.35, 1: 0.37, 2: "CUDA out of memory <b>"},
        "nam": {0: None, 1: None, 2: None},
    }
    page, markdown = report(write_study(tmp_path, found))
    assert "4 of 9 trainings failed or are missing" in page.text
    assert "CUDA out of memory <b>" in page.text
    assert r"| gam | 2 | – | – | – | – | CUDA out of memory \<b\> |" in markdown
    assert "| base | 1 | 31.00 | 2 | 61 | 900 | 2026-11-24 |" in markdown
    verdicts, trainings = page.tables[0], page.tables[-1]
    assert verdicts[1][2:6] == ["+5.50 ± 6.35", "–", "0.058", "2"]
    assert verdicts[2][1] == "○ no verdict"
    assert len(trainings) == 10


def test_differences_by_class_are_in_both_reports(tmp_path):
    def metrics(seed, gain):
        return {"AP": 0.3, "per_class": {"cat": {"AP": 0.2 + seed / 10 + gain * (1 + seed)}, "dog": {"AP": 0.4}}}

    found = {name: {s: metrics(s, gain) for s in (0, 1)} for name, gain in (("base", 0), ("gam", 0.01))}
    page, markdown = report(write_study(tmp_path, found))
    rows = [["cat", "–", "25.00", "+1.50 ± 6.35"], ["dog", "–", "40.00", "0.00 ± 0.00"]]
    assert [["class", "objects", "base", "gam"], *rows] in page.tables
    for row in rows:
        assert f"| {' | '.join(row)} |" in markdown


def test_nothing_finished(tmp_path):
    page, _ = report(write_study(tmp_path, {"base": {0: None}, "gam": {0: "it broke"}}))
    assert "2 of 2 trainings failed or are missing" in page.text
    assert "svg" not in page.tags


def test_a_variant_is_also_compared_with_its_control(tmp_path):
    found = {**scores(0.02), "wide": WIDE}
    page, _ = report(write_study(tmp_path, found, controls={"wide": "gam"}, labels={"wide": "wider base"}))
    names = [row[0] for row in page.tables[0][1:]]
    assert names == ["gam", "wider base", "gamcompared with wider base"]
    assert "after Holm's correction for 3 verdicts" in page.text
    assert "wider base gained" not in page.text


@pytest.mark.parametrize(
    ("gflops", "text"), [(3.97, "3.97 GFLOPs instead of 3.50, +13.4%"), (3.36, "3.36 GFLOPs instead of 3.50, −4.0%")]
)
def test_a_control_of_another_cost_is_a_problem(gflops, text, tmp_path):
    write_study(tmp_path, {**scores(), "wide": {0: 0.3, 1: 0.31}}, controls={"wide": "gam"})
    for wide in (gflops, 3.44):
        costs = {"base": {"gflops": 3.26}, "gam": {"gflops": 3.5}, "wide": {"gflops": wide}}
        (tmp_path / "costs.json").write_text(json.dumps({"variants": costs}))
        page, markdown = report(read_study(tmp_path))
        assert (text in page.text) == (text in markdown) == (wide == gflops)


def test_names_stay_text(tmp_path):
    """A name makes no tag, table cell or formula in either file; lone surrogates are replaced."""
    metrics = {"AP": 0.3, "per_class": {HOSTILE: {"AP": 0.3}, "\ud800": {"AP": 0.2}}, "evaluator": HOSTILE}
    found = {"base": {0: metrics, 1: metrics}, "gam": {0: {**metrics, "AP": 0.4}, 1: HOSTILE}}
    calls = [{"command": HOSTILE, "begun": HOSTILE}]
    changes = {"calls": calls, "data": {"path": HOSTILE}, "settings": {HOSTILE: HOSTILE}}
    plain, _ = report(write_study(tmp_path / "plain", {"base": {0: 0.3, 1: 0.3}, "gam": {0: 0.4, 1: "x"}}))
    page, markdown = report(
        write_study(tmp_path / "hostile", found, labels={"base": HOSTILE, "gam": HOSTILE}, **changes)
    )
    assert page.tags.count("script") == plain.tags.count("script") == 1
    assert '<script>alert("1")</script>' in page.text
    table = markdown[markdown.index("## Scores") :]
    assert len(re.findall(r"(?<!\\)\|", table.splitlines()[6])) == len(re.findall(r"(?<!\\)\|", table.splitlines()[4]))
    assert "<script>" not in markdown[: markdown.index("## What was run")].replace("\\<", "")


def test_the_page_loads_nothing(tmp_path):
    text = write_report(write_study(tmp_path, scores())).page.read_text(encoding="utf-8")
    links = [link for link in Page(text).links if not link.startswith("#")]
    assert links == ["data:,"]
    assert not re.search(r"@import|url\((?!#)|<iframe|fetch\(|XMLHttpRequest", text)


def test_charts_are_whole_and_their_text_is_text(tmp_path):
    text = write_report(write_study(tmp_path, scores(), labels={"gam": "GAM <b> & $x$"})).page.read_text(
        encoding="utf-8"
    )
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert charts
    for chart in charts:
        shown = "".join(ElementTree.fromstring(chart).itertext())
        assert "GAM <b> & $x$" in shown
        assert "AP" in shown


def test_the_same_files_give_the_same_report(tmp_path):
    study = write_study(tmp_path, scores())
    first = write_report(study).page.read_bytes()
    before = sorted(file.name for file in tmp_path.iterdir())
    assert write_report(read_study(tmp_path)).page.read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert {"report.html", "report.md", "results.csv"} <= set(before)


def test_different_machines_and_versions_are_listed(tmp_path):
    study = write_study(tmp_path, scores())
    file = run_folder(tmp_path, "gam", 1) / "run.json"
    record = json.loads(file.read_text())
    versions = {**VERSIONS, "torch": "2.9.0"}
    file.write_text(json.dumps({**record, "machine": "a GPU", "versions": versions, "epochs": 1}))
    page, _ = report(read_study(study.folder))
    for text in ("versions of torch: 2.1.0 (5 trainings), 2.9.0 (1 training)", "machines: ", "numbers of epochs: 2 (5"):
        assert f"The trainings differ in their {text}" in page.text


def test_data_in_another_format_has_ultralytics_metrics(tmp_path):
    def metrics(value):
        own = {"mAP50-95(B)": value, "mAP50(M)": value + 0.1, "mAP50-95(M)": value - 0.1, "evaluator": "Ultralytics"}
        return {"ultralytics": own}

    found = {v: {s: metrics(value) for s, value in runs.items()} for v, runs in scores(0.02).items()}
    page, _ = report(write_study(tmp_path, found))
    assert "gained mAP50-95(M) over base" in page.text
    assert "There is no ground_truth.json" in page.text
    assert page.tables[1][0] == ["variant", "seeds", "mAP50-95(B)", "mAP50(M)", "mAP50-95(M)"]


def test_many_variants_are_charted(tmp_path):
    found = {f"v{n}": {s: 0.3 + n / 100 + s / 500 * n for s in (0, 1)} for n in range(12)}
    page, _ = report(write_study(tmp_path, found))
    assert len(page.tables[0]) == 12


def test_seeds_added_later_are_reported(tmp_path):
    calls = [{"command": "a", "begun": "2026", "seeds": [0, 1]}, {"command": "b", "begun": "2027", "seeds": [0, 1, 2]}]
    for name, given in (("a", calls), ("b", calls[1:])):
        page, _ = report(write_study(tmp_path / name, scores(), calls=given))
        assert ("Seed 2 came after the first command:" in page.text) == (name == "a")


def test_no_page_names_a_folder_of_this_machine(tmp_path, monkeypatch):
    """Data, weights, home, the comparison itself, and errors and commands that name them."""
    home = tmp_path / "home/jane <doe> & co"
    monkeypatch.setenv("HOME", str(home))
    folder, data, weights = home / "work/study", home / "secret/bccd", home / "secret/yolov8n.pt"
    folder.mkdir(parents=True)
    monkeypatch.chdir(home)
    command = f"yolo-attn compare --data {data} --weights {weights} --output {folder}"
    call = {"command": command, "begun": "2026-12-01"}
    error = f"{folder}/runs/base/seed-1.log: no space left; {data}/annotations/x.json: gone"
    study = write_study(
        folder,
        {"base": {0: 0.4, 1: error}, "a": {0: 0.5, 1: 0.5}},
        data={"path": str(data)},
        weights={"path": str(weights), "sha256": "0"},
        calls=[call],
    )
    write_report(study)
    for file in ("report.html", "report.md", "results.csv"):
        text = (folder / file).read_text()
        assert "jane" not in text, file
        assert "secret" not in text
    assert "--data bccd --weights yolov8n.pt --output ." in (folder / "report.html").read_text()
    assert "./runs/base/seed-1.log: no space left" in (folder / "report.html").read_text()
