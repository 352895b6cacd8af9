"""Reading a comparison's folder: finished, failed, missing and broken trainings, and broken folders."""

import json

import pytest
from studies import write_study

from yolo_attn.compare.study_folder import read_study, run_folder
from yolo_attn.errors import UserError


def test_finished_failed_and_missing_trainings(tmp_path):
    study = write_study(tmp_path, {"base": {0: 0.3, 7: None}, "gam-neck": {0: "out of\nmemory", 7: 0.4}})
    assert [(run.variant, run.seed, run.error) for run in study.runs] == [
        ("base", 0, None),
        ("base", 7, "not finished"),
        ("gam-neck", 0, "out of memory"),
        ("gam-neck", 7, None),
    ]
    assert study.base.name == "base"
    assert list(study.done("gam-neck")) == [7]
    assert study.done("gam-neck")[7].scores == pytest.approx({"AP": 0.4, "AP50": 0.6})


def test_numbers_that_coco_does_not_define_are_absent(tmp_path):
    metrics = {"AP": 0.2, "APs": -1.0, "per_class": {"cat": {"AP": 0.2, "AP50": 0.4}, "dog": {"AP": -1, "AP50": -1}}}
    (run,) = write_study(tmp_path, {"base": {0: metrics}}).runs
    assert run.scores == {"AP": 0.2}
    assert run.per_class == {"cat": {"AP": 0.2, "AP50": 0.4}, "dog": {}}


def test_classifiers_have_their_own_scores_and_counts(tmp_path):
    own = {"accuracy_top1": 0.5, "accuracy_top5": 1.0}
    per_class = {"a": {"accuracy_top1": 0.5, "images": 4}, "b": {"accuracy_top1": -1.0, "images": 0}}
    confusion = {"classes": ["a", "b"], "counts": [[2, 2], [0, 0]]}
    metrics = {**own, "images": 4, "per_class": per_class, "confusion": confusion, "evaluator": "ours"}
    first, second = write_study(tmp_path, {"base": {0: metrics, 1: {"ultralytics": own}}}).runs
    assert first.scores == second.scores == own
    assert first.per_class == {"a": {"accuracy_top1": 0.5, "images": 4}, "b": {"images": 0}}
    assert (first.confusion.classes, first.confusion.counts.tolist()) == (("a", "b"), [[2, 2], [0, 0]])
    assert (first.evaluator, second.confusion, second.per_class) == ("ours", None, {})


def test_data_in_another_format_has_ultralytics_metrics(tmp_path):
    own = {"precision(B)": 0.5, "mAP50-95(B)": 0.3, "recall(B)": float("nan"), "evaluator": "Ultralytics 8.3.0"}
    (run,) = write_study(tmp_path, {"base": {0: {"ultralytics": own}}}).runs
    assert run.scores == {"precision(B)": 0.5, "mAP50-95(B)": 0.3}
    assert run.evaluator == "Ultralytics 8.3.0"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", "{"),
        ("run.json", '{"variant": "base", "seed": 0}'),
        ("metrics.json", "[]"),
        ("metrics.json", '{"AP": 0.5, "per_class": {"cat": 3}}'),
        ("metrics.json", "\x00"),
        ("metrics.json", '{"accuracy_top1": 0.5, "confusion": []}'),
        ("metrics.json", '{"accuracy_top1": 0.5, "confusion": {"classes": ["a", "b"], "counts": [[1, 2]]}}'),
        ("metrics.json", '{"accuracy_top1": 0.5, "confusion": {"classes": ["a", "b"], "counts": [[1, 2], [3]]}}'),
        ("metrics.json", '{"accuracy_top1": 0.5, "confusion": {"classes": ["a"], "counts": [[NaN]]}}'),
        ("metrics.json", '{"accuracy_top1": 0.5, "confusion": {"classes": ["a"], "counts": [["x"]]}}'),
        ("metrics.json", None),
    ],
)
def test_a_broken_training_has_an_error_in_one_line(file, text, tmp_path):
    write_study(tmp_path, {"base": {0: 0.3, 1: 0.4}})
    broken = run_folder(tmp_path, "base", 0) / file
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    first, second = read_study(tmp_path).runs
    assert not first.done
    assert "\n" not in first.error
    assert second.done


MANIFEST = {
    "base": "a.yaml",
    "variants": [{"name": "base", "label": "a"}],
    "seeds": [0],
    "epochs": 1,
    "data": {"path": "x"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "it has no seeds; expected at least one"),
        ({"variants": []}, "it has no variants; expected at least one"),
        ({"seeds": [1, 2, 1]}, "seed 1 is listed twice; expected each once"),
        ({"variants": MANIFEST["variants"] * 2}, "variant 'base' is listed twice; expected each once"),
        ({"variants": [{"name": "../../x", "label": ""}]}, "expected a valid file name"),
        ({"variants": [{"name": "..", "label": ""}]}, "expected a valid file name"),
        ({"seeds": ["0"]}, "Expected `int`, got `str`"),
        ({"epochs": None}, "Expected `int`, got `null`"),
        ({"data": "x"}, "Expected `object`, got `str`"),
        ("{", "Input data was truncated"),
        (None, "not found; expected the folder of a comparison"),
    ],
)
def test_a_broken_manifest_is_reported_in_one_line(changes, message, tmp_path):
    if changes is not None:
        text = changes if isinstance(changes, str) else json.dumps({**MANIFEST, **changes})
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError) as error:
        read_study(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "manifest.json"))
    assert message in str(error.value)
