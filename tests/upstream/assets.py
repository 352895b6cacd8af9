"""Stand-ins for what Ultralytics' own tests download: random weights and tiny data sets, so that they run offline.

    python assets.py FOLDER [path/to/coco-mini]

writes weights/, datasets/, runs/ and cfg/ into FOLDER, and settings that point there; tests then run with
YOLO_CONFIG_DIR=FOLDER/cfg. Without coco-mini the images and their objects are drawn.
"""

import json
import os
import shutil
import sys
from pathlib import Path


def write(out: Path, coco: Path | None) -> None:
    for name in ("weights/path with spaces", "datasets", "runs", "cfg"):
        (out / name).mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_CONFIG_DIR=str(out / "cfg"), YOLO_OFFLINE="1", YOLO_AUTOINSTALL="false")
    write_weights(out)
    write_sets(out / "datasets", coco if coco and coco.is_dir() else drawn(out / "drawn"))


def write_weights(out: Path) -> None:
    import torch
    from ultralytics import YOLO, settings
    from ultralytics.cfg import TASK2MODEL

    folders = {f"{name}_dir": str(out / name) for name in ("weights", "datasets", "runs")}
    settings.update(**folders, sync=False)
    torch.manual_seed(0)
    for task, file in TASK2MODEL.items():
        try:
            model = YOLO(file.replace(".pt", ".yaml"), task=task)
        except FileNotFoundError as error:  # a task without a model YAML
            print(task, file, error)
        else:
            model.ckpt = model.ckpt or {}  # early 8.3 saves only what has one
            model.save(str(out / "weights" / file))
            shutil.copy(out / "weights" / file, out / "weights/path with spaces" / file)


def drawn(folder: Path) -> Path:
    """A COCO-format set of eight images with filled rectangles in noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": k, "name": str(k)} for k in range(1, 4)]}
    (folder / "images/val").mkdir(parents=True, exist_ok=True)
    for i in range(1, 9):
        pixels = rng.integers(0, 60, (240, 320, 3), dtype=np.uint8)
        for k in range(1, 4):
            x, y, w, h = (int(value) for value in rng.integers(20, 100, 4))
            pixels[y : y + h, x : x + w] = rng.integers(100, 256, 3)
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            item = {"image_id": i, "category_id": k, "bbox": [x, y, w, h], "segmentation": [corners]}
            content["annotations"].append(item)
        Image.fromarray(pixels).save(folder / f"images/val/{i}.jpg")
        content["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 240})
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    return folder


def inside(value: float) -> float:
    return min(max(value, 0), 1)


def box(a: dict, image: dict) -> list[float]:
    x, y, w, h = a["bbox"]
    width, height = image["width"], image["height"]
    return [inside(v) for v in ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)]


def detect(k: int, a: dict, image: dict) -> list:
    return [k % 80, *box(a, image)]


def segment(k: int, a: dict, image: dict) -> list:
    sides = (image["width"], image["height"])
    return [k % 80, *(inside(v / sides[n % 2]) for n, v in enumerate(a["segmentation"][0]))]


def pose(k: int, a: dict, image: dict) -> list:
    x, y, w, h = box(a, image)
    return [0, x, y, w, h, *[x, y, 2] * 17]


def obb(k: int, a: dict, image: dict) -> list:
    x, y, w, h = box(a, image)
    corners = ((x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2))
    return [k % 15, *(inside(v) for corner in corners for v in corner)]


SETS = {
    "coco8": detect,
    "coco8-seg": segment,
    "coco8-pose": pose,
    "dota8": obb,
    "coco8-grayscale": detect,
    "coco12-formats": detect,
}


def write_sets(folder: Path, coco: Path) -> None:
    content = json.loads((coco / "annotations/instances_val.json").read_text())
    classes = {category["id"]: k for k, category in enumerate(content["categories"])}
    files = {file.name: file for file in coco.rglob("*.jpg")}
    objects = [a for a in content["annotations"] if isinstance(a["segmentation"], list)]
    for name, form in SETS.items():
        for split, images in (("train", content["images"][:4]), ("val", content["images"][4:8])):
            for kind in ("images", "labels"):
                (folder / name / kind / split).mkdir(parents=True, exist_ok=True)
            for image in images:
                file = files[Path(image["file_name"]).name]
                shutil.copy(file, folder / name / "images" / split)
                mine = [a for a in objects if a["image_id"] == image["id"]]
                lines = [" ".join(map(str, form(classes[a["category_id"]], a, image))) for a in mine]
                (folder / name / "labels" / split / f"{file.stem}.txt").write_text("\n".join(lines))
    for split in ("train", "val", "test"):
        for k in range(10):
            kind = folder / f"imagenet10/{split}/n{k:08d}"
            kind.mkdir(parents=True, exist_ok=True)
            for n, image in enumerate(content["images"][:2]):
                shutil.copy(files[Path(image["file_name"]).name], kind / f"{n}.jpg")


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve() if sys.argv[2:] else None)
