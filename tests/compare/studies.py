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
    with (folder / "results.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["epoch", f"metrics/{main}"], [1, value / 2], [2, value]])


def _write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
