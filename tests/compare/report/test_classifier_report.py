"""Reports of classifiers: sections, pairs of trainings, classes, confusions; one seed, many classes, odd names."""

import csv
import re

import numpy as np
import pytest
from pages import Page
from studies import write_classifiers, write_study

from yolo_attn.cli import main
from yolo_attn.compare.report.writer import write_report
from yolo_attn.compare.study_folder import read_study

HOSTILE = '<b>"a", b</b> $x_{1}$ | `c`'


def drawn(seed, skill, classes, images=6):
    """Answers to so many images of each class; wrong ones take the next class."""
    rng, number = np.random.default_rng(seed), len(classes)
    found = []
    for n, name in enumerate(classes):
        order = [classes[(n + step) % number] for step in range(min(number, 5))]
        for i in range(images):
            right = rng.random() < skill
            found.append((f"{n}/{i}.png", name, order if right or number == 1 else [*order[1:], order[0]]))
    return found


def study(folder, classes, seeds=3, unseen=()):
    skills = {"base": 0.5, "simam": 0.75}
    answers = {
        name: {seed: drawn([seed, n], skill, classes) for seed in range(seeds)}
        for n, (name, skill) in enumerate(skills.items())
    }
    return write_classifiers(folder, answers, classes=[*classes, *unseen])


def report(study):
    """report.html read, report.md, and the sections of the former by name."""
    file = write_report(study).page
    text = file.read_text(encoding="utf-8")
    parts = re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.DOTALL)
    return Page(text), file.with_suffix(".md").read_text(encoding="utf-8"), {name: Page(part) for name, part in parts}


def test_the_page_has_all_parts(tmp_path):
    classes = [f"class {n}" for n in range(16)]
    page, markdown, parts = report(study(tmp_path, classes))
    assert list(parts) == [
        *("verdicts", "meaning", "scores", "pairs", "costs", "charts", "confusions", "classes", "trainings"),
        *("rules", "manifest"),
    ]
    assert "Yes, on this budget: simam gained top-1 accuracy over base." in page.text
    assert re.search(r"▲ gain: \+\d+\.\d\d ± \d+\.\d\d top-1 accuracy, 3 seeds", " ".join(page.text.split()))
    assert parts["scores"].tables[0][0] == ["variant", "seeds", "top-1 accuracy", "top-5 accuracy"]
    assert parts["charts"].tags.count("svg") == 4  # three learning curves and the classes; there are no costs
    for name in ("top-1 accuracy", "training loss", "validation loss"):
        assert f"Learning curves of {name}: mean over seeds, and a band" in parts["charts"].text
    assert parts["confusions"].tags.count("svg") == 2
    assert "The 96 validation images are resampled 1000 times with repetition" in " ".join(page.text.split())
    for word in ("COCO", "TIDE", "Kinds of errors", "ground_truth", "objects"):
        assert word not in page.text.partition("What was run")[0]
        assert word not in markdown.partition("## What was run")[0]


def test_pairs_of_trainings_stand_beside_the_verdicts(tmp_path):
    page, markdown, parts = report(study(tmp_path, ["a", "b", "c"], seeds=2))
    (table,) = parts["pairs"].tables
    assert table[0] == ["variant", "seed", "gained", "lost", "difference", "p, McNemar"]
    assert [row[:2] for row in table[1:]] == [["simam", "0"], ["simam", "1"]]
    for row in table[1:]:
        gained, lost = map(int, row[2:4])
        assert row[4].replace("−", "-") == f"{100 * (gained - lost) / 18:+.2f}"
        assert f"| simam | base | {' | '.join(row[1:])} |" in markdown
    for text in (page.text, markdown):
        plain = " ".join(text.split())
        assert "It holds both trainings fixed" in plain
        assert "it has no part in a verdict" in plain


def test_one_seed_has_no_verdict_but_its_pair(tmp_path):
    page, _, parts = report(study(tmp_path, ["a", "b", "c"], seeds=1))
    assert "No verdict: there is no spread over seeds to judge top-1 accuracy by." in page.text
    assert len(parts["pairs"].tables[0]) == 2
    assert "images ±" in parts["scores"].text


def test_a_class_without_images_has_no_number(tmp_path):
    _, markdown, parts = report(study(tmp_path, ["a", "b"], unseen=["empty"]))
    rows = {row[0]: row[1:] for row in parts["classes"].tables[0][1:]}
    assert parts["classes"].tables[0][0] == ["class", "images", "base", "simam"]
    assert rows["empty"] == ["0", "–", "–"]
    assert rows["a"][0] == "6"
    assert "| empty | 0 | – | – |" in markdown
    assert parts["confusions"].tags.count("svg") == 2


def test_names_of_classes_stay_text(tmp_path):
    classes = [HOSTILE, "<script>alert(1)</script>", "a, b", "ünï 注意", "x" * 90]
    page, markdown, parts = report(study(tmp_path, classes))
    assert page.tags.count("script") == 1
    assert HOSTILE in parts["classes"].text
    assert "$x_{1}$" in parts["confusions"].text
    assert "x" * 90 not in "".join(re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text(), re.DOTALL))
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert not [line for line in tables if "<b>" in line.replace("\\<", "")]


@pytest.mark.parametrize(("number", "named"), [(16, True), (100, True), (200, False)])
def test_many_classes(number, named, tmp_path):
    """They are named on the axes while there is room; numbers of classes beyond."""
    classes = [f"kind-{n:03d}" for n in range(number)]
    _, _, parts = report(study(tmp_path, classes, seeds=2))
    text = (tmp_path / "report.html").read_text()
    matrices = re.findall(r"<svg.*?</svg>", text.partition('<section id="confusions">')[2], re.DOTALL)
    for matrix in matrices:
        assert matrix.count(">kind-") == (2 * number if named else 0)
        assert len(matrix) < 200_000
    assert ('class="charts wide"' in text) == (number > 24)
    assert len(parts["confusions"].tables[0]) == 1 + min(20, number)  # each class is taken for the next
    rows = parts["classes"].tables[0]
    assert len(rows) == number + 1
    changes = [abs(float(row[3].split(" ")[0].replace("−", "-"))) for row in rows[1:]]
    assert (changes == sorted(changes, reverse=True)) == (number > 24)
    assert ("; the largest differences first" in parts["classes"].text) == (number > 24)


def test_frequent_confusions_are_those_of_any_model(tmp_path):
    """Means over seeds, by a count of the answers."""

    def images(of_seed):
        return [(f"a/{n}.png", "a", ["b"] if n < of_seed else ["a"]) for n in range(9)] + [("b/0.png", "b", ["b"])]

    answers = {"base": {0: images(2), 1: images(3)}, "simam": {0: images(0), 1: images(1)}, "nam": {0: None, 1: "bad"}}
    _, markdown, parts = report(write_classifiers(tmp_path, answers))
    (table,) = parts["confusions"].tables
    assert table == [["class", "taken for", "images", "base", "simam", "nam"], ["a", "b", "9", "2.5", "0.5", "–"]]
    assert "| a | b | 9 | 2.5 | 0.5 | – |" in markdown


def test_trainings_without_answers_are_compared_by_their_scores(tmp_path):
    """As of earlier versions."""
    metrics = {name: {"accuracy_top1": score, "accuracy_top5": 0.9} for name, score in (("base", 0.5), ("simam", 0.6))}
    found = {name: {seed: {"ultralytics": own} for seed in (0, 1)} for name, own in metrics.items()}
    page, _, parts = report(write_study(tmp_path, found))
    assert "+10.00 top-1 accuracy, 2 seeds" in " ".join(page.text.split())
    assert page.text.count("predictions.json: no such file") == 4
    assert not {"pairs", "confusions", "classes"} & set(parts)


def test_a_perfect_classifier_has_no_confusions(tmp_path):
    answers = {name: {seed: drawn(seed, 1.0, ["a", "b"]) for seed in (0, 1)} for name in ("base", "simam")}
    _, _, parts = report(write_classifiers(tmp_path, answers))
    assert parts["confusions"].tables == []
    assert parts["pairs"].tables[0][1] == ["simam", "0", "0", "0", "0.00", "1.000"]


@pytest.mark.parametrize("found", [None, "it broke"])
def test_nothing_finished(found, tmp_path):
    answers = {"base": {0: found}, "simam": {0: None}}
    page, _, parts = report(write_classifiers(tmp_path, answers, data={"path": "pictures", "kind": "classify"}))
    assert "to judge top-1 accuracy by" in page.text
    assert "ground_truth" not in page.text
    assert not {"pairs", "confusions", "classes"} & set(parts)


def test_results_csv_has_a_line_for_each_training(tmp_path):
    write_report(study(tmp_path, ["a", "b", "c"], seeds=2))
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], row["seed"]) for row in rows] == [(v, s) for v in ("base", "simam") for s in "01"]
    assert {"accuracy_top1", "accuracy_top5", "evaluator"} <= set(rows[0])
    assert "images" not in rows[0]
    assert all(0 < float(row["accuracy_top1"]) < 1 for row in rows)


def test_the_report_can_be_written_again(tmp_path, capsys):
    study(tmp_path, ["a", "b", "c"])
    first = write_report(study(tmp_path, ["a", "b", "c"])).page.read_bytes()
    assert main(["compare", "--report-only", "--output", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert (tmp_path / "report.html").read_bytes() == first
    assert "top-1 accuracy, points of 100; ± is half of a 95 % interval over seeds, paired" in output
    assert re.search(r"simam +base +(▲ gain|● no)", output)


def test_answers_that_cannot_be_read_are_listed(tmp_path):
    study(tmp_path, ["a", "b", "c"])
    (tmp_path / "runs/simam/seed-1/predictions.json").unlink()
    page, markdown, parts = report(read_study(tmp_path))
    for text in (page.text, markdown.replace("\\_", "_")):
        assert "./runs/simam/seed-1/predictions.json: no such file" in text
    assert [row[1] for row in parts["pairs"].tables[0][1:]] == ["0", "2"]
    assert len(parts["classes"].tables[0]) == 4
