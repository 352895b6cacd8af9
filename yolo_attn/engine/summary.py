"""The short tables that a training and a validation end with."""

from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops, get_num_params

from yolo_attn.coco.evaluate import score_text
from yolo_attn.compat import unwrapped

SHOWN = 6
"""How many of COCO's numbers a training ends with, and half as many of the boxes beside masks or keypoints."""

LABELS = {
    "APs": "AP small",
    "APm": "AP medium",
    "APl": "AP large",
    "ARs": "AR small",
    "ARm": "AR medium",
    "ARl": "AR large",
}


def print_training(trainer: Any) -> None:
    """Print what was reached, what the model costs, and where everything is."""
    model = unwrapped(trainer.model)
    size = trainer.args.imgsz
    print_table(
        [
            *_scores(trainer.validator, SHOWN),
            ("parameters", f"{get_num_params(model):,}"),
            ("GFLOPs", f"{get_flops(model, size):.2f} at {size} px"),
            ("best weights", str(trainer.best if trainer.best.exists() else trainer.last)),
            ("plots, metrics.json", str(trainer.save_dir)),
        ],
    )


def print_demo(trainer: Any) -> None:
    """Print which pictures a training on the demo set has left, and what to do next."""
    folder, images = Path(trainer.save_dir), Path(trainer.args.data, "images/val")
    drawn = [folder / name for name in ("results.png", "val_batch0_labels.jpg", "val_batch0_pred.jpg")]
    print_table(
        [
            *(("look at", str(file)) for file in drawn if file.exists()),
            ("next", f"yolo-attn attention-maps --weights {trainer.best} --source {images}"),
            ("your own data", "yolo-attn train --cfg yolov8n-gam.yaml --data path/to/coco --epochs 100"),
        ]
    )


def print_validation(validator: Any) -> None:
    """Print all of COCO's numbers, or Ultralytics' own, and where the files are."""
    folder = Path(validator.save_dir)
    files = [("metrics", folder / "metrics.json"), ("predictions", folder / "predictions.json")]
    print_table([*_scores(validator), *((label, str(file)) for label, file in files if file.exists())])


def _scores(validator: Any, most: int | None = None) -> list[tuple[str, str]]:
    """COCO's numbers, or Ultralytics' own where the data is not COCO's; `most` of the task's, half as many of boxes."""
    coco = getattr(validator, "coco", None)
    if coco:
        label = coco.label if validator.kind == "bbox" else f"{coco.label} {validator.kind}"
        rows = [(f"{label} {LABELS.get(name, name)}", score_text(value)) for name, value in coco.metrics.items()][:most]
        boxes = list(coco.boxes.metrics.items()) if coco.boxes else []
        return [
            *rows,
            *(
                (f"{coco.label} bbox {LABELS.get(name, name)}", score_text(value))
                for name, value in boxes[: most and most // 2]
            ),
        ]
    own = {key.removeprefix("metrics/"): value for key, value in validator.metrics.results_dict.items()}
    return [(f"Ultralytics {key}", score_text(v)) for key, v in own.items() if key.startswith(("mAP", "accuracy"))]


def print_table(rows: list[tuple[str, str]]) -> None:
    """Print labels and values in two columns."""
    width = max(len(label) for label, _ in rows)
    LOGGER.info("\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows))
