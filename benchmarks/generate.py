"""Draw a COCO-format data set of any size, the same for a seed, to measure on.

    python benchmarks/generate.py path/to/folder --images 118287 --boxes 860001

FOLDER/coco has annotations/ and pictures as COCO 2017 has them, of the size of COCO's own where nothing else is asked;
FOLDER/txt has the same as Ultralytics' data YAML and txt labels, without crowds. A few hundred distinct pictures of
textured noise are hard-linked to all the names. JSONs are written as a stream: memory grows with the images alone.
"""

import argparse
import functools
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val")
CHUNK = 10_000
SIZES = np.array([(640, 480), (640, 427), (480, 640), (500, 375), (640, 425), (427, 640)])
CROWDS = 0.012
MEDIAN_POINTS = 20  # of a polygon; the mean is a quarter more
URL = "http://images.example.org"


class Chunk(NamedTuple):
    """Some annotations: ids, rows of images and of categories (ascending by id), boxes (left, top, width, height)."""

    ids: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """One split of a drawn set: how much, and from which seed."""

    name: str
    images: int
    boxes: int
    categories: int = 80
    pictures: int = 300
    seed: int = 0

    def rng(self, *further: int) -> np.random.Generator:
        """A generator of this split's own."""
        return np.random.default_rng((self.seed, SPLITS.index(self.name), *further))

    @functools.cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """Ids with gaps, out of order."""
        return self.rng().permutation(5 * self.images)[: self.images] + 1

    @functools.cached_property
    def category_ids(self) -> NDArray[np.int64]:
        """Ids with gaps, ascending; the same for all splits."""
        rng = np.random.default_rng(self.seed)
        return np.sort(rng.permutation(self.categories * 9 // 8)[: self.categories]) + 1

    @functools.cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Width and height of each image, pixels."""
        return SIZES[np.arange(self.images) % self.pictures % len(SIZES)]

    def file_names(self) -> list[str]:
        """File name of each image."""
        return [f"{image_id:012d}.jpg" for image_id in self.image_ids.tolist()]

    def chunks(self) -> Iterator[Chunk]:
        """All annotations: in some images many, in few none, of some categories many."""
        busy = self.rng(1).gamma(2, size=self.images).cumsum()
        common = (1 / (1 + self.rng(2).permutation(self.categories))).cumsum()
        for start in range(0, self.boxes, CHUNK):
            rng, n = self.rng(3, start), min(CHUNK, self.boxes - start)
            image = busy.searchsorted(busy[-1] * rng.random(n))
            category = common.searchsorted(common[-1] * rng.random(n))
            size = self.sizes[image]
            extent = np.exp(rng.uniform(np.log(6), np.log(400), (n, 1)) + rng.normal(0, 0.4, (n, 2)))
            extent = extent.clip(2, size - 1)
            boxes = np.concatenate([rng.random((n, 2)) * (size - extent), extent], 1)
            ids = 2 * start + 1 + rng.permutation(2 * n)[:n]
            yield Chunk(ids, image, category, (np.floor(100 * boxes) / 100).round(2), rng.random(n) < CROWDS)


def write_json(split: Split, file: Path) -> None:
    """Write a split as COCO does: all keys, polygons, run lengths of crowds."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = [f"thing {i}" for i in range(split.categories)]
    categories = zip(split.category_ids.tolist(), names, strict=True)
    rows = [{"supercategory": "thing", "id": i, "name": name} for i, name in categories]
    licences = [{"url": f"{URL}/licences/{i}", "id": i, "name": f"Licence {i}"} for i in range(1, 9)]
    with file.open("wb") as stream:
        stream.write(b'{"info":' + msgspec.json.encode({"description": "drawn", "version": "1.0", "year": 2017}))
        _stream(stream, "licenses", [licences])
        _stream(stream, "images", _images(split))
        _stream(stream, "annotations", (_annotations(split, chunk) for chunk in split.chunks()))
        _stream(stream, "categories", [[rows[i] for i in split.rng(4).permutation(len(rows))]])
        stream.write(b"}")


def _stream(stream: BinaryIO, key: str, parts: Iterable[list[Any]]) -> None:
    stream.write(b',"%s":[' % key.encode())
    for i, part in enumerate(parts):
        stream.write((b"," if i else b"") + msgspec.json.encode(part)[1:-1])
    stream.write(b"]")


def _images(split: Split) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, split.images, CHUNK):
        rows = zip(split.image_ids[start : start + CHUNK].tolist(), split.sizes[start:].tolist(), strict=False)
        yield [
            {
                "license": 1 + i % 8,
                "file_name": f"{i:012d}.jpg",
                "coco_url": f"{URL}/{split.name}2017/{i:012d}.jpg",
                "height": height,
                "width": width,
                "date_captured": f"2013-11-{1 + i % 28:02d} 17:02:{i % 60:02d}",
                "flickr_url": f"http://farm{1 + i % 9}.example.org/{i % 9999:04d}/{i:010d}_{i:010x}_z.jpg",
                "id": i,
            }
            for i, (width, height) in rows
        ]


def _annotations(split: Split, chunk: Chunk) -> list[dict[str, Any]]:
    rng = split.rng(5, int(chunk.ids[0]))
    points = rng.lognormal(np.log(MEDIAN_POINTS), 0.7, len(chunk.ids)).clip(3, 300).astype(int)
    ends = points.cumsum()
    angles = 2 * np.pi * (np.arange(ends[-1]) - np.repeat(ends - points, points)) / np.repeat(points, points)
    half = np.repeat(chunk.boxes[:, 2:] / 2, points, axis=0)
    around = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.6, 1, (len(angles), 1))
    outlines = (np.repeat(chunk.boxes[:, :2], points, axis=0) + half * (1 + around)).round(2).ravel().tolist()
    areas = 0.6 * chunk.boxes[:, 2] * chunk.boxes[:, 3]
    image_ids, category_ids = split.image_ids[chunk.image], split.category_ids[chunk.category]
    columns = (chunk.ids, image_ids, category_ids, chunk.boxes, areas, chunk.crowd, ends - points, ends)
    rows = []
    for i, image, category, box, area, crowd, start, end in zip(*(c.tolist() for c in columns), strict=True):
        outline = outlines[2 * start : 2 * end]
        middle = len(outline) // 4 * 2
        shape: Any = [outline[:middle], outline[middle:]] if i % 10 == 0 and middle >= 6 else [outline]
        row = {"segmentation": shape, "area": area, "iscrowd": int(crowd), "image_id": image}
        rows.append({**row, "bbox": box, "category_id": category, "id": i})
    for at in np.flatnonzero(chunk.crowd).tolist():
        width, height = split.sizes[chunk.image[at]].tolist()
        changes = np.sort(rng.permutation(width * height)[: int(rng.integers(100, 600))])
        counts = np.diff(changes, prepend=0, append=width * height)
        rows[at]["segmentation"] = {"counts": counts.tolist(), "size": [height, width]}
        rows[at]["area"] = float(counts[1::2].sum())
    return rows


def draw_pictures(split: Split, folder: Path) -> list[Path]:
    """JPEGs of textured noise, of the size and weight of COCO's."""
    folder.mkdir(parents=True)
    files = []
    for number in range(split.pictures):
        rng, (width, height) = np.random.default_rng((split.seed, number)), SIZES[number % len(SIZES)].tolist()
        picture = np.full((height, width, 3), rng.uniform(80, 176, 3), np.float32)
        for cell, contrast in ((1, rng.uniform(3, 15)), (4, 12), (16, 20), (64, 30)):
            noise = rng.standard_normal((height // cell + 2, width // cell + 2, 3), np.float32)
            picture += contrast * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        files.append(folder / f"{number}.jpg")
        cv2.imwrite(str(files[-1]), picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return files


def link_pictures(split: Split, files: list[Path], folder: Path) -> None:
    """Hard-link the distinct pictures to all file names of a split."""
    folder.mkdir(parents=True)
    for row, name in enumerate(split.file_names()):
        os.link(files[row % len(files)], folder / name)


def write_labels(split: Split, folder: Path) -> None:
    """Write Ultralytics' txt labels of a split; crowds carry none."""
    folder.mkdir(parents=True)
    parts = [(c.image[~c.crowd], c.category[~c.crowd], c.boxes[~c.crowd]) for c in split.chunks()]
    image, category, boxes = (np.concatenate(part) for part in zip(*parts, strict=True))
    boxes[:, :2] += boxes[:, 2:] / 2
    boxes /= np.tile(split.sizes[image], 2)
    order = np.argsort(image, kind="stable")
    lines = ["{} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(category[i], *boxes[i]) for i in order]
    ends = np.searchsorted(image[order], np.arange(split.images + 1))
    for row, name in enumerate(split.file_names()):
        text = "".join(lines[ends[row] : ends[row + 1]])
        (folder / name).with_suffix(".txt").write_text(text)


def generate(folder: Path, train: Split, val: Split) -> None:
    """Write the whole set; what the folder had of an earlier one goes."""
    for name in ("coco", "txt", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    files = draw_pictures(train, folder / "pictures")
    for split in (train, val):
        name = f"{split.name}2017"
        write_json(split, folder / "coco" / "annotations" / f"instances_{name}.json")
        link_pictures(split, files, folder / "coco" / name)
        link_pictures(split, files, folder / "txt" / "images" / name)
        write_labels(split, folder / "txt" / "labels" / name)
    names = {i: f"thing {i}" for i in range(train.categories)}
    described = {"path": str((folder / "txt").resolve()), "train": "images/train2017", "val": "images/val2017"}
    (folder / "txt" / "data.yaml").write_text(json.dumps({**described, "names": names}))  # JSON is YAML too
    (folder / "splits.json").write_text(json.dumps([asdict(train), asdict(val)]))


def main() -> None:
    """Read the arguments, write the set, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=860_001)
    parser.add_argument("--val-images", type=int, default=5_000)
    parser.add_argument("--val-boxes", type=int, default=36_000)
    parser.add_argument("--categories", type=int, default=80)
    parser.add_argument("--pictures", type=int, default=300, help="distinct ones; default: 300")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shared = {"categories": args.categories, "pictures": args.pictures, "seed": args.seed}
    start = time.perf_counter()
    train = Split("train", args.images, args.boxes, **shared)
    generate(args.folder, train, Split("val", args.val_images, args.val_boxes, **shared))
    for file in sorted((args.folder / "coco" / "annotations").iterdir()):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    weights = [file.stat().st_size / 1e3 for file in (args.folder / "pictures").iterdir()]
    print(f"{len(weights)} distinct pictures of {min(weights):.0f} to {max(weights):.0f} kB")
    print(f"written in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
