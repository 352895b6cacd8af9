"""Answers of classifiers, image by image: McNemar's test, resampled images, files that differ or are broken."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from studies import write_classifiers

from yolo_attn.compare.analysis.answers import mcnemar, read_answers
from yolo_attn.compare.analysis.bootstrap import accuracies, draw
from yolo_attn.compare.analysis.images import NORMAL
from yolo_attn.compare.analysis.verdicts import GAIN, LOSS, NO_EVIDENCE, NO_VERDICT, results_of
from yolo_attn.compare.study_folder import read_study, run_folder
from yolo_attn.errors import UserError

CLASSES = [f"c{n}" for n in range(8)]


def exact(gained, lost):
    """P of a division of gained + lost fair coins that is at least as uneven, in exact arithmetic."""
    n = gained + lost
    ways = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(gained - lost))
    return float(Fraction(ways, 2**n))


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (0, 1), (5, 0), (3, 3), (4, 3), (10, 2), (2, 10), (40, 25), (300, 251)]
)
def test_mcnemars_p_is_the_exact_one(gained, lost):
    variant = np.array([True] * gained + [False] * lost + [True] * 7 + [False] * 5)
    against = np.array([False] * gained + [True] * lost + [True] * 7 + [False] * 5)
    order = np.random.default_rng(0).permutation(len(variant))
    found = mcnemar(variant[order], against[order])
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(exact(gained, lost), rel=1e-12)
    if gained + lost:
        assert found.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-12)


def test_mcnemar_errs_at_most_as_often_as_its_level():
    """Two classifiers of the same skill, wrong on other images."""
    rng = np.random.default_rng(1)
    p = [mcnemar(*(rng.random((2, 200)) < 0.8)).p for _ in range(2000)]
    wrong = np.mean(np.array(p) < 0.05)
    assert 0.01 < wrong < 0.05


def test_accuracy_of_resamples_is_that_of_repeated_images():
    rng = np.random.default_rng(2)
    right, drawn = rng.random(30) < 0.7, draw(30, 20)
    found = accuracies(right, drawn)
    for row, counts in enumerate(drawn):
        copies = [right[image] for image, count in enumerate(counts) for _ in range(count)]
        assert found[row] == pytest.approx(sum(copies) / len(copies), abs=1e-12)
    assert found[0] == right.mean()


def drawn_images(rng, skill, images=240):
    """Answers that are right with a probability; wrong ones have the right class second, or not among the best five."""
    found = []
    for n in range(images):
        actual = CLASSES[n % len(CLASSES)]
        others = [name for name in rng.permutation(CLASSES).tolist() if name != actual]
        top = [actual, *others] if rng.random() < skill else [others[0], actual, *others[1:]]
        found.append((f"{actual}/{n}.png", actual, top[:5] if rng.random() < 0.9 or top[0] == actual else others[:5]))
    return found


def test_a_gain_a_loss_and_no_effect_are_told_apart(tmp_path):
    skills = {"base": 0.7, "better": 0.9, "worse": 0.5, "same": 0.7}
    answers = {
        name: {seed: drawn_images(np.random.default_rng([seed, n]), skill) for seed in range(4)}
        for n, (name, skill) in enumerate(skills.items())
    }
    results = results_of(write_classifiers(tmp_path, answers))
    assert [each.verdict for each in results.contrasts] == [GAIN, LOSS, NO_EVIDENCE]
    assert results.main == "accuracy_top1"
    assert results.metrics == results.shown == ("accuracy_top1", "accuracy_top5")
    assert results.images.number == 240
    for each in results.contrasts:
        assert list(each.disagreements) == [0, 1, 2, 3]
        for seed, found in each.disagreements.items():
            assert (found.gained - found.lost) / 240 == pytest.approx(each.main.by_seed[seed])
    assert all(found.p < 0.001 for found in results.contrasts[0].disagreements.values())


def test_images_are_resampled_for_both_models_alike(tmp_path):
    """The interval of images against a loop over drawn images; pairs by name, whichever order the files have."""
    rng = np.random.default_rng(3)
    answers = {name: {seed: drawn_images(rng, 0.7, 60) for seed in (0, 1)} for name in ("base", "simam")}
    shuffled = {
        name: {s: [images[i] for i in rng.permutation(60)] for s, images in runs.items()}
        for name, runs in answers.items()
    }
    (contrast,) = results_of(write_classifiers(tmp_path, shuffled)).contrasts
    names = sorted(image for image, *_ in answers["base"][0])
    for metric, is_right in (("accuracy_top1", lambda c, top: top[0] == c), ("accuracy_top5", lambda c, top: c in top)):
        right = {
            (name, seed): {image: is_right(c, top) for image, c, top in images}
            for name, runs in answers.items()
            for seed, images in runs.items()
        }
        differences = []
        for counts in draw(60, 1000)[1:]:
            by_seed = []
            for seed in (0, 1):
                shares = [
                    sum(right[name, seed][image] * int(count) for image, count in zip(names, counts, strict=True)) / 60
                    for name in ("base", "simam")
                ]
                by_seed.append(shares[1] - shares[0])
            differences.append(sum(by_seed) / 2)
        assert contrast.images[metric] == pytest.approx(NORMAL * np.std(differences, ddof=1), rel=1e-9)


def test_one_seed_has_no_verdict_and_mcnemars_test(tmp_path):
    rng = np.random.default_rng(4)
    answers = {"base": {7: drawn_images(rng, 0.5)}, "simam": {7: drawn_images(rng, 0.9)}}
    (contrast,) = results_of(write_classifiers(tmp_path, answers)).contrasts
    assert (contrast.verdict, contrast.p) == (NO_VERDICT, None)
    assert contrast.disagreements[7].p < 0.001


def test_a_p_of_mcnemar_is_not_in_holms_family(tmp_path):
    """The corrected p is that of the seeds' t-tests alone, however many images agree."""
    rng = np.random.default_rng(5)
    answers = {name: {seed: drawn_images(rng, 0.7) for seed in range(3)} for name in ("base", "a", "b")}
    contrasts = results_of(write_classifiers(tmp_path, answers)).contrasts
    own = sorted(each.main.p for each in contrasts)
    assert sorted(each.p for each in contrasts) == pytest.approx([min(1, 2 * own[0]), max(min(1, 2 * own[0]), own[1])])
    assert {each.verdicts for each in contrasts} == {2}


def test_curves_and_confusions_are_means_over_seeds(tmp_path):
    rng = np.random.default_rng(6)
    answers = {"base": {seed: drawn_images(rng, 0.7) for seed in range(3)}}
    (base,) = results_of(write_classifiers(tmp_path, answers)).variants
    assert list(base.curves) == ["top-1 accuracy", "training loss", "validation loss"]
    assert base.curves["training loss"] == {1: [3.0] * 3, 2: [1.5] * 3}
    expected = np.zeros((8, 8))
    for images in answers["base"].values():
        for _, actual, top in images:
            expected[CLASSES.index(actual), CLASSES.index(top[0])] += 1 / 3
    assert base.confusion.classes == tuple(CLASSES)
    assert base.confusion.counts == pytest.approx(expected)


def test_files_of_other_images_are_a_problem_and_compared_on_those_in_common(tmp_path):
    rng = np.random.default_rng(7)
    images = drawn_images(rng, 0.7)
    answers = {"base": {0: images[:-2]}, "simam": {0: [*images[3:-2], ("c0/new.png", "c0", ["c0"])]}}
    results = results_of(write_classifiers(tmp_path, answers))
    assert results.images.number == 235
    (line,) = results.images.problems
    files = [run_folder(tmp_path, name, 0) / "predictions.json" for name in ("simam", "base")]
    assert line == (
        f"{files[0]}: its images are not those of {files[1]}, first c0/0.png; the choice of images is analysed on the "
        "235 that all trainings have"
    )
    assert sum(results.contrasts[0].disagreements[0][:2]) <= 235
    answers["simam"] = {0: [("c0/new.png", "c0", ["c0"])]}
    results = results_of(write_classifiers(tmp_path, answers))
    assert (results.images.number, results.contrasts[0].disagreements) == (0, {})
    assert "on the 0 that all" in results.images.problems[0]


def test_an_image_under_another_class_is_another_image(tmp_path):
    answers = {"base": {0: [("a/1.png", "a", ["a"]), ("b/1.png", "b", ["a"])]}}
    answers["simam"] = {0: [("a/1.png", "a", ["a"]), ("b/1.png", "a", ["a"])]}
    results = results_of(write_classifiers(tmp_path, answers, classes=["a", "b"]))
    assert results.images.number == 1
    assert len(results.images.problems) == 1


BROKEN = {
    "missing": (None, "no such file"),
    "no JSON": ("[", "Input data was truncated"),
    "no list": ("{}", "Expected `array`, got `object`"),
    "no image": ("[]", "it has no image; expected each image once"),
    "no answer": ('[{"image": "a/1.png", "class": "a", "top": []}]', "Expected `array` of length >= 1"),
    "no class": ('[{"image": "a/1.png", "top": ["a"]}]', "missing required field `class`"),
    "numbers": ('[{"image": "a/1.png", "class": 3, "top": [3]}]', "Expected `str`, got `int`"),
    "an image twice": (json.dumps([{"image": "a/1.png", "class": "a", "top": ["a"]}] * 2), "it has an image twice"),
    "other answers": (
        json.dumps([{"image": f"c0/{n}.png", "class": "c0", "top": ["c1"]} for n in range(9)]),
        "accuracy_top1 is 0.00 by it, but",
    ),
    "bytes": (b"\xff\xfe", "predictions.json: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_a_problem_and_the_others_are_compared(case, tmp_path):
    rng = np.random.default_rng(8)
    answers = {name: {seed: drawn_images(rng, 0.7) for seed in (0, 1)} for name in ("base", "simam")}
    write_classifiers(tmp_path, answers)
    text, message = BROKEN[case]
    file = run_folder(tmp_path, "simam", 1) / "predictions.json"
    file.unlink()
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    (contrast,) = (results := results_of(read_study(tmp_path))).contrasts
    (line,) = results.images.problems
    assert line.startswith(f"{file}: ")
    assert message in line
    assert "\n" not in line
    assert list(contrast.main.by_seed) == [0, 1]
    assert list(contrast.disagreements) == [0]
    assert contrast.images == {}  # an interval is of all seeds


def test_more_than_five_classes_of_an_answer_do_not_count(tmp_path):
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps([{"image": "g/1.png", "class": "g", "top": list("abcdefg")}]))
    assert read_answers(file) == {("g/1.png", "g"): (False, False)}
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        read_answers(file)
