"""The names under which results.csv and trackers have COCO's numbers."""

import re

from yolo_attn.coco.evaluate import CocoScores
from yolo_attn.engine.validation.metrics import class_keys, coco_keys, coco_results

HOSTILE = ["a,b", "a;b", "a\nb", 'quo"te', "100 %", "", "..", "a/b", "a_b_2", "пёс", "loss", "x" * 300, "x" * 301, "50"]


def test_any_class_has_a_key_of_its_own_that_every_tracker_takes():
    keys = class_keys(HOSTILE)
    assert len(set(keys)) == len(HOSTILE)
    for key in keys:
        assert re.fullmatch(r"metrics/[-.\w]{1,80}", key)
    assert keys[0] == "metrics/COCO_AP_a_b"
    assert keys[9] == "metrics/COCO_AP_пёс"


def test_keys_are_known_before_the_numbers():
    for count, kind, expected in ((100, "bbox", 112), (101, "bbox", 12), (1, "segm", 25), (1, "keypoints", 23)):
        names = [str(i) for i in range(count)]
        keys = coco_keys(kind, names)
        assert len(keys) == expected
        own = [key.removeprefix("metrics/COCO_") for key in keys]
        box = [name.removeprefix("box_") for name in own if name.startswith("box_")]
        main = own[: 10 if kind == "keypoints" else 12]
        scores = CocoScores("", dict.fromkeys(main, 0.5), {name: {"AP": 0.25, "AP50": 0.5} for name in names})
        boxes = CocoScores("", dict.fromkeys(box, 0.5), {}) if box else None
        assert list(coco_results(scores, boxes)) == keys
