"""One COCO JSON divided into splits: lists of image ids and a data YAML, beside nothing of the user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from yolo_attn.coco.dataset.image_files import readings
from yolo_attn.coco.dataset.layouts import home_of, others_of
from yolo_attn.coco.dataset.locations import load_alone
from yolo_attn.coco.dataset.paths import as_text
from yolo_attn.coco.dataset.subsets import original_ids
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.errors import UserError, listed
from yolo_attn.files import check_apart, check_output_folder, write_json, write_text
from yolo_attn.tables import aligned

YAML_NAME = "data.yaml"


@dataclass(frozen=True)
class Division:
    """A JSON's images by split.

    Attributes:
        index: The JSON.
        images: Folder of its file names.
        rows: Rows of the images of each split, ascending.
        crowds_as_objects: Whether annotations with iscrowd are objects like others.
    """

    index: CocoIndex
    images: Path
    rows: dict[str, NDArray[np.int64]]
    crowds_as_objects: bool = False

    def lines(self) -> list[str]:
        """A table: images of each split, and its annotations of each category."""
        of_split = np.empty(len(self.index.image_ids), dtype=int)
        for number, rows in enumerate(self.rows.values()):
            of_split[rows] = number
        splits = of_split[self.index.image_of]
        number = len(self.index.category_names)
        counts = [
            np.bincount(self.index.category_of[splits == n], minlength=number).tolist() for n in range(len(self.rows))
        ]
        images = ["images", *(f"{len(rows):,}" for rows in self.rows.values())]
        of_names = [
            [name, *(f"{each[row]:,}" for each in counts)] for row, name in enumerate(self.index.category_names)
        ]
        return aligned([["", *self.rows], images, *of_names])


def divide(
    data: Path, shares: Mapping[str, float], seed: int = 0, by_folder: bool = False, images: Path | None = None
) -> Division:
    """Divide a JSON's images so that each category keeps its share in every split.

    Args:
        data: The JSON, or a folder that has just one.
        shares: Of the images, of "val" and perhaps "test"; the rest is "train".
        seed: The same seed divides alike.
        by_folder: Whether images whose file names have the same folder stay together.
        images: Folder of the images; None looks for it around the JSON.

    Raises:
        UserError: If there is no such JSON, its images are not found, or a split would have no image.
    """
    file = data if not data.is_dir() else _only_json(data)
    found = load_alone(file, images=images)
    index = found.index
    groups = _groups(index, by_folder)
    rows: dict[str, NDArray[np.int64]] = {}
    order = _order(index, groups, seed)
    sizes = np.array([len(group) for group in groups])
    taken = 0.0
    for split, share in shares.items():
        chosen = _spread(sizes[order], share / (1 - taken))
        rows[split], order = order[chosen], order[~chosen]
        taken += share
    rows = {"train": order, **rows}
    empty = [split for split, numbers in rows.items() if not len(numbers)]
    if empty:
        what = "folders of images" if by_folder else "images"
        raise UserError(f"{file}: {len(groups)} {what} are too few for {empty[0]!r}")
    of_images = {split: np.sort(np.concatenate([groups[n] for n in numbers])) for split, numbers in rows.items()}
    return Division(index, found.folders[0], of_images, found.crowds_as_objects)


def write(division: Division, output: Path, force: bool = False) -> Path:
    """Write `data.yaml` and a list of image ids for each split, `train_ids.json` and so on.

    Returns:
        The data YAML, which `--data` takes.

    Raises:
        UserError: If the folder lies among the data, or holds files already and `force` does not allow that.
    """
    file = division.index.files[0].absolute()
    check_apart(output, "-o", [home_of(file), division.images])
    check_output_folder(output, "-o", force)
    ids = original_ids(division.index)
    for split, rows in division.rows.items():
        write_json(output / f"{split}_ids.json", [ids[row] for row in rows.tolist()])
    described = {
        **dict.fromkeys(division.rows, as_text(division.images)),
        "annotations": dict.fromkeys(division.rows, as_text(file)),
        "image_ids": {split: f"{split}_ids.json" for split in division.rows},
        **({"crowds_as_objects": True} if division.crowds_as_objects else {}),
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(output / YAML_NAME, f"# made by yolo-attn split; image_ids lists the images of each split\n{text}")
    return output / YAML_NAME


def _only_json(folder: Path) -> Path:
    found = others_of(folder, "detect")
    if len(found) != 1:
        names = listed([str(file.relative_to(folder)) for file in found], 5) or "none"
        raise UserError(f"{folder}: expected one COCO JSON in it, found {names}; give the JSON itself")
    return found[0]


def _groups(index: CocoIndex, by_folder: bool) -> list[NDArray[np.int64]]:
    """Rows of the images that stay together."""
    if not by_folder:
        return list(np.arange(len(index.image_ids))[:, None])
    found: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(index.image_ids)):
        *folders, _ = (readings(index.file_names[row]) or [("",)])[-1]
        found.setdefault(tuple(folders), []).append(row)
    return [np.array(rows) for rows in found.values()]


def _order(index: CocoIndex, groups: Sequence[NDArray[np.int64]], seed: int) -> NDArray[np.int64]:
    """Groups in random order, those that show the same rarest category one after the other, as `subsets.subset`."""
    number = len(index.category_ids)
    rarity = np.argsort(np.argsort(np.bincount(index.category_of, minlength=number), kind="stable"))
    rarest = np.full(len(index.image_ids), number)
    np.minimum.at(rarest, index.image_of, rarity[index.category_of])
    of_group = np.array([rarest[group].min() for group in groups])
    order = np.random.default_rng(seed).permutation(len(groups))
    return order[np.argsort(of_group[order], kind="stable")]


def _spread(sizes: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Choose groups, evenly spread, that have a share of all images; at least one, where one may be left."""
    chosen, so_far, taken = np.zeros(len(sizes), dtype=bool), 0, 0.0
    for n, size in enumerate(sizes.tolist()):
        so_far += size
        if taken + size / 2 <= share * so_far:
            chosen[n] = True
            taken += size
    if not chosen.any() and len(sizes) > 1:
        chosen[len(sizes) // 2] = True
    return chosen
