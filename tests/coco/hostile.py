"""What the tests of hostile JSONs and images share: a small set, changes of it, and how it is read and scored."""

import warnings

from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import Detections, coco_scores

BASE = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in (1, 2, 3)],
    "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": 390, "iscrowd": crowd}
        for n, (image, category, box, crowd) in enumerate(
            [
                (1, 7, [5, 5, 20, 20], 0),
                (1, 3, [30, 10, 20, 20], 0),
                (2, 7, [8, 20, 20, 20], 0),
                (2, 7, [30, 4, 30, 40], 1),
                (3, 3, [2, 2, 20, 20], 0),
            ],
            start=11,
        )
    ],
}
FOUND = [
    ("1.jpg", "cat", [6, 6, 20, 20], 0.9),
    ("1.jpg", "dog", [31, 14, 20, 20], 0.8),
    ("2.jpg", "cat", [8, 21, 20, 20], 0.7),
    ("2.jpg", "cat", [32, 8, 15, 20], 0.6),
    ("3.jpg", "dog", [40, 20, 20, 20], 0.5),
    ("3.jpg", "dog", [3, 2, 20, 20], 0.4),
]
"""What a detector found, by file name and category name."""

OTHER_SIZE = {"image of another size than the JSON says": 1}
OUTSIDE = {"image file outside its image folder": 1}


def read(folder, task="detect", split="val"):
    """A split, examined; nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_source(folder, [split], task)[split]
        return found.index, examine(found.index, found.folders, found.index.category_names)


def reported(examined):
    """Each kind of problem up to its first comma, and how often it was met; each in one line."""
    lines = examined.report.problems.lines()
    assert all(len(line) < 500 and len(line.splitlines()) == 1 for line in lines), lines
    return {kind.split(",")[0]: count for kind, count in examined.report.problems}


def scored(index, folder):
    """COCO's numbers of what was found, and the file in which it is saved."""
    names, files, detections = index.category_names, list(index.file_names), Detections()
    for file in dict.fromkeys(files):
        rows = [d for d in FOUND if d[0] == file and d[1] in names]
        ids = [int(index.category_ids[names.index(d[1])]) for d in rows]
        image = int(index.image_ids[files.index(file)])
        detections.add(image, [d[2] for d in rows], [d[3] for d in rows], ids)
    detections.save(folder / "predictions.json", index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return coco_scores(index, detections).metrics


def renamed(**ids):
    """Gives every image, or category, or annotation another id."""

    def change(content):
        for kind, new in ids.items():
            for item in content[{"category": "categories"}.get(kind, f"{kind}s")]:
                item["id"] = new(item["id"])
            for annotation in content["annotations"]:
                if f"{kind}_id" in annotation:
                    annotation[f"{kind}_id"] = new(annotation[f"{kind}_id"])

    return change


def put(kind, n, **values):
    """Changes an image, category or annotation; None takes a key away."""

    def change(content):
        content[kind][n].update(values)
        for key in [key for key, value in values.items() if value is None]:
            del content[kind][n][key]

    return change


def more(kind, *items):
    def change(content):
        content[kind] += items

    return change


def many(*changes):
    def change(content):
        for one in changes:
            one(content)

    return change


def annotation(**values):
    return {"id": 99, "image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, **values}


def one_box(*box):
    return put("annotations", 0, bbox=list(box))


def images(*file_names):
    return {**BASE, "annotations": [], "images": [{"id": n, "file_name": f} for n, f in enumerate(file_names)]}
