"""Comparisons without trainings: in folders as the runner leaves them, and in memory."""

import csv
import json
from pathlib import Path

from yolo_attn.compare.study_folder import (
    Costs,
    Data,
    Manifest,
    Record,
    Run,
    Study,
    Variant,
    read_study,
    run_folder,
)

VERSIONS = {"yolo_attn": "0.1.0", "ultralytics": "8.4.0", "torch": "2.1.0", "python": "3.11.0"}


def write_study(folder, scores, **changes):
    """Write a comparison and read it back.

    Args:
        folder: Its folder.
        scores: By variant, by seed: AP, a fraction of 1, or all of metrics.json; None for a missing training, a text
            for why it failed.
        changes: Parts of manifest.json; "labels" and "controls" by variant.
    """
    labels, controls = changes.pop("labels", {}), changes.pop("controls", {})
    variants = [{"name": n, "label": labels.get(n, n), "control_for": controls.get(n)} for n in scores]
    seeds = list(dict.fromkeys(seed for runs in scores.values() for seed in runs))
    manifest = {"base": "yolov8n.yaml", "variants": variants, "seeds": seeds, "epochs": 2, "data": {"path": "bccd"}}
    _write(folder / "manifest.json", {**manifest, **changes})
    for variant, runs in scores.items():
        for seed, found in runs.items():
            _write_run(run_folder(folder, variant, seed), variant, seed, found)
    return read_study(folder)


def write_classifiers(folder, answers, **changes):
    """Write a comparison of classifiers and read it back.

    Args:
        folder: Its folder.
        answers: By variant, by seed: a list of images, each with its class and the classes found, the best first; None
            for a missing training, a text for why it failed.
        changes: As of `write_study`; "classes" are the model's, by default those of the images.
    """
    known = [images for of_seed in answers.values() for images in of_seed.values() if isinstance(images, list)]
    classes = changes.pop("classes", None) or sorted({actual for images in known for _, actual, _ in images})
    metrics = {
        variant: {s: classified(images, classes) if isinstance(images, list) else images for s, images in runs.items()}
        for variant, runs in answers.items()
    }
    write_study(folder, metrics, **changes)
    for variant, runs in answers.items():
        for seed, images in runs.items():
            if isinstance(images, list):
                found = [{"image": i, "class": c, "top": top, "confidence": [0.5] * len(top)} for i, c, top in images]
                _write(run_folder(folder, variant, seed) / "predictions.json", found)
                rows = [["epoch", "train/loss", "metrics/accuracy_top1", "val/loss"]]
                top1 = metrics[variant][seed]["accuracy_top1"]
                rows += [[epoch, 3 / epoch, top1 * epoch / 2, 4 / epoch] for epoch in (1, 2)]
                _write_csv(run_folder(folder, variant, seed), rows)
    return read_study(folder)


def classified(images, classes):
    """What metrics.json says of answers: an image, its class, and the classes found, the best first."""
    counts = [[sum((c, top[0]) == (row, column) for _, c, top in images) for column in classes] for row in classes]
    of_class = {name: [top[0] == c for _, c, top in images if c == name] for name in classes}
    return {
        "accuracy_top1": sum(top[0] == c for _, c, top in images) / len(images),
        "accuracy_top5": sum(c in top for _, c, top in images) / len(images),
        "images": len(images),
        "per_class": {
            name: {"accuracy_top1": sum(right) / len(right) if right else -1, "images": len(right)}
            for name, right in of_class.items()
        },
        "confusion": {"classes": classes, "counts": counts},
        "evaluator": "yolo_attn",
        "ultralytics": {"accuracy_top1": 0.123, "accuracy_top5": 0.456, "evaluator": "Ultralytics"},
    }


def study_in_memory(scores):
    """A finished comparison without files: `scores` has the AP by variant, by seed."""
    variants = tuple(Variant(name, name) for name in scores)
    manifest = Manifest("yolov8n.yaml", variants, tuple(scores["base"]), 2, Data("bccd"))
    runs = [
        Run(name, seed, Path("/nowhere"), Record(name, seed, 2, 60.0), scores={"AP": float(ap)})
        for name, of_seed in scores.items()
        for seed, ap in of_seed.items()
    ]
    return Study(Path("/nowhere"), manifest, Costs(), tuple(runs))


def _write_run(folder, variant, seed, found):
    if found is None:
        return
    if isinstance(found, str):
        _write(folder / "failed.json", {"error": found})
        return
    record = {
        "variant": variant,
        "seed": seed,
        "epochs": 2,
        "seconds": 60.0 + seed,
        "memory_mb": 900.0,
        "device": "cpu",
    }
    _write(folder / "run.json", {**record, "machine": "a CPU", "versions": VERSIONS, "finished": "2026-11-24"})
    metrics = found if isinstance(found, dict) else {"AP": found, "AP50": min(1.0, found + 0.2), "evaluator": "hotcoco"}
    _write(folder / "metrics.json", metrics)
    main = "COCO_AP" if "AP" in metrics else next((n for n in metrics.get("ultralytics", ()) if "50-95" in n), "AP")
    value = {**metrics.get("ultralytics", {}), "COCO_AP": metrics.get("AP")}.get(main) or 0.0
    _write_csv(folder, [["epoch", f"metrics/{main}"], [1, value / 2], [2, value]])


def _write_csv(folder, rows):
    with (folder / "results.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def _write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
