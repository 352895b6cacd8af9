"""What a COCO data YAML says besides where files are: used, refused where it contradicts the JSON, or reported."""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_attn.coco.dataset.subsets import only_classes
from yolo_attn.coco.reading.index import CocoIndex, brief, shortened
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.coco.reading.values import name_in, number_in
from yolo_attn.environment import CROWDS_VARIABLE, UNUSED_VARIABLE
from yolo_attn.errors import UserError, did_you_mean, listed, similar

OKS_SIGMAS = "kpt_oks_sigmas"
"""Ultralytics' key of OKS sigmas, which late 8.4 takes for its loss and its own mAP, too."""

SIGMAS = "kpt_sigmas"
"""The same by a shorter name."""

KEYPOINT_KEYS = ("kpt_shape", "flip_idx", "kpt_names", OKS_SIGMAS)
SWITCHES = {"drop_unused": UNUSED_VARIABLE, "crowds_as_objects": CROWDS_VARIABLE}
"""Keys that options say, too, and the variables that these set."""

USED = ("names", "nc", "channels", *KEYPOINT_KEYS, SIGMAS, *SWITCHES)
SPLITS = ("train", "val", "test")

FEW = 5
"""Names that a message lists."""
PLACES = ("path", *SPLITS, "annotations", "image_ids", *(f"{split}_json" for split in SPLITS))
HARMLESS = ("download", "minival", "categories", "only")
"""Keys that are neither used nor reported: Ultralytics' downloads and other splits, and keys of a run's own YAML."""

CHANNELS = 3


@dataclass(frozen=True)
class Keys:
    """What a data YAML says of classes and keypoints; the rest is the JSON's.

    `names` are the categories that are used, in the order of the classes; None takes all, by id. `number` is how many
    classes there are, `further` has Ultralytics' keys on keypoints. `drop_unused` skips categories that no annotation
    of the train and val split uses, `crowds_as_objects` takes annotations with iscrowd as objects like others.
    """

    file: Path | None = None
    names: tuple[str, ...] | None = None
    number: float | None = None
    further: dict[str, Any] = field(default_factory=dict)
    drop_unused: bool = False
    crowds_as_objects: bool = False

    def applied(self, index: CocoIndex) -> CocoIndex:
        """Return an index with these categories alone; annotations of others are reported once.

        Raises:
            UserError: If the JSON has no category of these names, or other keypoints.
        """
        self._check_keypoints(index)
        if self.names is None:
            return index
        left = only_classes(index, self.names)
        if not left.category_names:
            of_file = f"which {index.file} lacks; it has {listed(index.category_names, FEW)}"
            raise UserError(f"{self.file}: names has {listed(self.names, FEW)}, {of_file}")
        others = [name for name in index.category_names if name not in self.names]
        less = len(index.boxes) - len(left.boxes)
        if less:
            warn_once(f"{self.file}: names skips {less:,} annotations of {listed(others, FEW)} in {index.file}")
        return left

    def check_classes(self, categories: Mapping[str, Collection[str]], used: Collection[str]) -> str:
        """Return how names or nc contradict the categories of each split; empty if they do not.

        The classes are the first split's; of them those that annotations use, where others are dropped.
        """
        known = list(dict.fromkeys(name for names in categories.values() for name in names))
        missing = [name for name in self.names or () if name not in known]
        if missing:
            near = similar(missing[0], known)
            hint = f"similar names: {listed(near, FEW)}" if near else f"expected some of {listed(known, FEW)}"
            return f"names has {listed(missing, FEW)}, which no JSON has; {hint}"
        split, classes = next(iter(categories.items()))
        if self.drop_unused:
            classes = [name for name in classes if name in used]
        if self.names is None and self.number not in {None, len(classes)}:
            found = f"nc is {self.number:g}, and {split} has {len(classes)} categories"
            return f"{found}; names says which of them are used"
        return ""

    def _check_keypoints(self, index: CocoIndex) -> None:
        if index.keypoints is None:
            return
        number = index.keypoints.shape[1]
        of_file = f"{index.file} has {number} keypoints"
        shape, flip, names, sigmas = map(self.further.get, KEYPOINT_KEYS)
        if shape is not None and shape != [number, 3]:
            raise UserError(f"{self.file}: kpt_shape is {brief(shape)}; {of_file}, expected [{number}, 3]")
        is_order = isinstance(flip, list) and set(map(type, flip)) == {int} and sorted(flip) == list(range(number))
        if flip not in (None, []) and not is_order:
            expected = f"each number from 0 to {number - 1} once"
            raise UserError(f"{self.file}: flip_idx is {brief(flip)}; {of_file}, expected {expected}")
        lists = list(names.values()) if isinstance(names, dict) else [None]
        if names is not None and not all(isinstance(given, list) and len(given) == number for given in lists):
            expected = f"{number} names for each class number"
            raise UserError(f"{self.file}: kpt_names is {brief(names)}; {of_file}, expected {expected}")
        are_sigmas = isinstance(sigmas, list) and all(type(v) in (int, float) and 0 < v < math.inf for v in sigmas)
        if sigmas is not None and not (are_sigmas and len(sigmas) == number):
            expected = f"{number} numbers above 0"
            raise UserError(f"{self.file}: OKS sigmas are {brief(sigmas)}; {of_file}, expected {expected}")


def read_keys(file: Path, described: dict[str, Any]) -> Keys:
    """Read what a data YAML says of classes and keypoints; each unused key is reported once.

    Raises:
        UserError: If values are wrong, contradict each other, or do not fit COCO-format data.
    """
    _report_unknown(file, "COCO-format data", described, (*USED, *PLACES), HARMLESS)
    if isinstance(described.get("annotations"), dict):
        _report_unknown(file, "annotations", described["annotations"], SPLITS)
    names = None if described.get("names") is None else _names(file, described["names"])
    number = described.get("nc")
    if number is not None and number_in(number) is None:
        raise UserError(f"{file}: nc is {brief(number)}; expected the number of classes")
    number = number_in(number)
    if names is not None and number not in {None, len(names)}:
        raise UserError(f"{file}: nc is {number:g}, and names has {len(names)}: {listed(names, FEW)}")
    channels = described.get("channels")
    if channels is not None and number_in(channels) != CHANNELS:
        raise UserError(f"{file}: channels is {brief(channels)}; COCO-format data has {CHANNELS}")
    further = {key: described[key] for key in KEYPOINT_KEYS if described.get(key) is not None}
    sigmas = described.get(SIGMAS)
    if sigmas is not None and further.setdefault(OKS_SIGMAS, sigmas) != sigmas:
        raise UserError(f"{file}: {SIGMAS} and {OKS_SIGMAS} differ; give one of them")
    switches = {key: described.get(key) or False for key in SWITCHES}
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{file}: {key} is {brief(value)}; expected true or false")
    return Keys(file, names, number, further, **switches)


def switched_on() -> set[str]:
    """Return those of the switches that an option has set for every data set."""
    return {key for key, variable in SWITCHES.items() if os.environ.get(variable) == "1"}


def _names(file: Path, given: Any) -> tuple[str, ...]:
    values = given
    if isinstance(given, dict):
        by_number = {number_in(key): value for key, value in given.items()}
        if set(by_number) != set(range(len(given))):
            raise UserError(f"{file}: names has the keys {listed(map(str, given), FEW)}; expected numbers from 0 on")
        values = [by_number[n] for n in range(len(given))]
    names = tuple(shortened(name_in(v)) for v in values) if isinstance(values, list) else ()
    if not names or not all(names):
        raise UserError(f"{file}: names is {brief(given)}; expected a list of class names, or a mapping from 0 on")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file}: names has {twice} more than once")
    return names


def _report_unknown(
    file: Path, place: str, given: Iterable[Any], known: Sequence[str], harmless: Sequence[str] = ()
) -> None:
    """Warn of each unused key, with the one that may be meant."""
    for key in given:
        if key not in {*known, *harmless}:
            hint = did_you_mean(similar(str(key), known, most=1))
            warn_once(f"{file}: {shortened(str(key))!r} is not a key of {place} and is not used{hint}")
