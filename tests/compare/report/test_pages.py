"""The report of comparisons of any kind: what it says, of whom, and that nothing of a name gets out of its place."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from pages import Page
from studies import VERSIONS, write_study

from yolo_attn.compare.report.files import write_report
from yolo_attn.compare.study import read_study, run_folder

HOSTILE = '<script>alert("1")</script>|`x`$_{y}$ & \x07 \u202e ünï 注意'


def report(study):
    """report.html read, and report.md."""
    file = write_report(study)
    text = file.read_text(encoding="utf-8")
    return Page(text), file.with_suffix(".md").read_text(encoding="utf-8")


def scores(gain=0.0, seeds=3):
    """AP of a base and of one variant that is above it by a gain, with a little luck."""
    luck = np.random.default_rng(1).normal(0, 0.001, seeds)
    return {
        "base": {seed: 0.30 + seed / 100 for seed in range(seeds)},
        "gam": {seed: 0.30 + seed / 100 + gain + luck[seed] for seed in range(seeds)},
    }


@pytest.mark.parametrize(
    ("gain", "answer", "verdict"),
    [
        (
            0.02,
            "Yes, by this budget: GAM at neck gained AP over yolov8n.",
            r"▲ gain: \+[12]\.\d\d ± 0\.\d\d AP, 3 seeds",
        ),
        (-0.02, "There is no evidence that GAM at neck gained AP over yolov8n. GAM at neck lost.", r"▼ loss: −"),
        (
            0.0,
            "There is no evidence that GAM at neck gained AP over yolov8n.",
            r"● no evidence of a gain: [+−]0\.\d\d ± 0",
        ),
    ],
)
def test_the_first_thing_is_the_answer(gain, answer, verdict, tmp_path):
    page, markdown = report(write_study(tmp_path, scores(gain), labels={"base": "yolov8n", "gam": "GAM at neck"}))
    heading = page.text.index("Did attention help yolov8n?", page.text.index("Did attention") + 1)
    assert heading < page.text.index(answer) < page.text.index("Verdicts")
    assert re.search(verdict, page.text)
    assert f"**{answer}**" in markdown


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
    told = [(row["variant"], row["seed"], row["AP"], row["error"]) for row in rows]
    assert told == [
        ("base", "0", "0.3", ""),
        ("base", "1", "", "not finished"),
        ("gam", "0", "", "it broke"),
        ("gam", "1", "0.4", ""),
    ]
    assert rows[2]["label"] == HOSTILE
    assert rows[0]["torch"] == VERSIONS["torch"]
    assert [row["evaluator"] for row in rows] == ["hotcoco", "", "", "hotcoco"]


def test_missing_and_failed_trainings_are_listed_and_the_rest_stands(tmp_path):
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
    assert verdicts[2][1] == "○ cannot be told"
    assert "no seed of which both have finished" in page.text
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


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    page, _ = report(write_study(tmp_path, scores(0.02, seeds=1)))
    assert "Whether it helped cannot be told: no spread over seeds to judge AP by." in page.text
    assert re.search(r"cannot be told: \+[12]\.\d\d AP, 1 seed\b", page.text)


def test_trainings_that_learnt_nothing(tmp_path):
    page, _ = report(write_study(tmp_path, {"base": {0: 0.0, 1: 0.0}, "gam": {0: 0.0, 1: 0.0}}))
    assert "AP is 0 throughout: so short a training tells nothing." in page.text
    assert "no evidence of a gain: 0.00 ± 0.00 AP, 2 seeds. Both have the same numbers." in page.text


def test_base_alone(tmp_path):
    page, markdown = report(write_study(tmp_path, {"base": {0: 0.3, 1: 0.31}}))
    assert "Nothing but base was trained: there is nothing to hold against it." in page.text
    assert "Verdicts" not in page.text + markdown


def test_nothing_finished(tmp_path):
    page, _ = report(write_study(tmp_path, {"base": {0: None}, "gam": {0: "it broke"}}))
    assert "2 of 2 trainings failed or are missing" in page.text
    assert "svg" not in page.tags


def test_a_control_of_equal_cost_is_held_against_its_variant(tmp_path):
    found = {**scores(0.02), "wide": {0: 0.32, 1: 0.331, 2: 0.339}}
    page, _ = report(write_study(tmp_path, found, controls={"wide": "gam"}, labels={"wide": "wider base"}))
    names = [row[0] for row in page.tables[0][1:]]
    assert names == ["gam", "wider base", "gamagainst wider base"]
    assert "after Holm's correction for 3 verdicts" in page.text
    assert "wider base gained" not in page.text


@pytest.mark.parametrize(
    ("gflops", "told"), [(3.97, "3.97 GFLOPs and 3.50, +13.4%"), (3.36, "3.36 GFLOPs and 3.50, −4.0%")]
)
def test_a_control_that_does_not_cost_the_same_is_a_problem(gflops, told, tmp_path):
    write_study(tmp_path, {**scores(), "wide": {0: 0.3, 1: 0.31}}, controls={"wide": "gam"})
    for wide in (gflops, 3.44):
        costs = {"base": {"gflops": 3.26}, "gam": {"gflops": 3.5}, "wide": {"gflops": wide}}
        (tmp_path / "costs.json").write_text(json.dumps({"variants": costs}))
        page, markdown = report(read_study(tmp_path))
        assert (told in page.text) == (told in markdown) == (wide == gflops)


def test_names_stay_text(tmp_path):
    """No tag, no table cell and no formula comes of a name, in neither file; what cannot be written is replaced."""
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


def test_the_page_needs_nothing_from_outside(tmp_path):
    text = write_report(write_study(tmp_path, scores())).read_text(encoding="utf-8")
    links = [link for link in Page(text).links if not link.startswith("#")]
    assert links == ["data:,"]
    assert not re.search(r"@import|url\((?!#)|<iframe|fetch\(|XMLHttpRequest", text)


def test_pictures_are_whole_and_their_text_is_text(tmp_path):
    text = write_report(write_study(tmp_path, scores(), labels={"gam": "GAM <b> & $x$"})).read_text(encoding="utf-8")
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert pictures
    for picture in pictures:
        shown = "".join(ElementTree.fromstring(picture).itertext())
        assert "GAM <b> & $x$" in shown
        assert "AP" in shown


def test_the_same_files_give_the_same_report(tmp_path):
    study = write_study(tmp_path, scores())
    first = write_report(study).read_bytes()
    before = sorted(file.name for file in tmp_path.iterdir())
    assert write_report(read_study(tmp_path)).read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert {"report.html", "report.md", "results.csv"} <= set(before)


def test_trainings_on_different_machines_and_versions_are_told(tmp_path):
    study = write_study(tmp_path, scores())
    file = run_folder(tmp_path, "gam", 1) / "run.json"
    record = json.loads(file.read_text())
    versions = {**VERSIONS, "torch": "2.9.0"}
    file.write_text(json.dumps({**record, "machine": "a GPU", "versions": versions, "epochs": 1}))
    page, _ = report(read_study(study.folder))
    for told in ("versions of torch: 2.1.0 (5 trainings), 2.9.0 (1 training)", "machines: ", "numbers of epochs: 2 (5"):
        assert f"The trainings differ in their {told}" in page.text


def test_other_data_than_cocos_is_reported_by_ultralytics_numbers(tmp_path):
    def metrics(value):
        own = {"mAP50-95(B)": value, "mAP50(M)": value + 0.1, "mAP50-95(M)": value - 0.1, "evaluator": "Ultralytics"}
        return {"ultralytics": own}

    found = {v: {s: metrics(value) for s, value in runs.items()} for v, runs in scores(0.02).items()}
    page, _ = report(write_study(tmp_path, found))
    assert "gained mAP50-95(M) over base" in page.text
    assert "There is no ground_truth.json" in page.text
    assert page.tables[1][0] == ["variant", "seeds", "mAP50-95(B)", "mAP50(M)", "mAP50-95(M)"]


def test_many_variants_are_told_apart(tmp_path):
    found = {f"v{n}": {s: 0.3 + n / 100 + s / 500 * n for s in (0, 1)} for n in range(12)}
    page, _ = report(write_study(tmp_path, found))
    assert len(page.tables[0]) == 12


def test_only_what_was_judged_is_answered(tmp_path):
    found = {
        "base": {0: 0.3, 1: 0.32, 2: 0.31},
        "gam": {0: 0.31, 1: 0.31, 2: 0.32},
        "nam": {0: "broke", 1: None, 2: None},
    }
    answer = "There is no evidence that gam gained AP over base. Of nam nothing can be told."
    assert answer in report(write_study(tmp_path / "one", found))[0].text
    zeros = {name: dict.fromkeys(range(3), 0.0) for name in ("base", "gam")}
    assert "cannot be told: AP is 0 throughout." in report(write_study(tmp_path / "zero", zeros))[0].text


def test_seeds_that_came_later_are_told(tmp_path):
    calls = [{"command": "a", "begun": "2026", "seeds": [0, 1]}, {"command": "b", "begun": "2027", "seeds": [0, 1, 2]}]
    assert (
        "After the first command came in seed 2:"
        in report(write_study(tmp_path / "a", scores(0.0), calls=calls))[0].text
    )
    assert "After the first" not in report(write_study(tmp_path / "b", scores(0.0), calls=calls[1:]))[0].text
