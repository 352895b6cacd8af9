"""The short tables that a training and a validation end with."""

from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops, get_num_params

from yolo_attn.coco.evaluate import METRICS, score_text

if TYPE_CHECKING:
    from yolo_attn.engine.trainer import CocoTrainer
    from yolo_attn.engine.validator import CocoValidator

LABELS = {
    "APs": "AP small",
    "APm": "AP medium",
    "APl": "AP large",
    "ARs": "AR small",
    "ARm": "AR medium",
    "ARl": "AR large",
}


def print_training(trainer: "CocoTrainer") -> None:
    """Print what was reached, what the model costs, and where everything is."""
    model = getattr(trainer.model, "module", trainer.model)
    own = (trainer.metrics or {}).get("metrics/mAP50-95(B)", -1)
    size = trainer.args.imgsz
    _print(
        _scores(trainer.validator, METRICS[:6]) or [("Ultralytics mAP50-95", score_text(own))],
        [
            ("parameters", f"{get_num_params(model):,}"),
            ("GFLOPs", f"{get_flops(model, size):.2f} at {size} px"),
            ("best weights", str(trainer.best if trainer.best.exists() else trainer.last)),
            ("plots, metrics.json", str(trainer.save_dir)),
        ],
    )


def print_validation(validator: "CocoValidator") -> None:
    """Print all twelve numbers and where the files are."""
    folder = Path(validator.save_dir)
    files = [("metrics", folder / "metrics.json"), ("predictions", folder / "predictions.json")]
    _print(_scores(validator, METRICS), [(label, str(file)) for label, file in files if file.exists()])


def _scores(validator: "CocoValidator", names: tuple[str, ...]) -> list[tuple[str, str]]:
    metrics = validator.coco.metrics if validator.coco else {}
    return [(f"COCO {LABELS.get(name, name)}", score_text(metrics[name])) for name in names if name in metrics]


def _print(*parts: list[tuple[str, str]]) -> None:
    rows = [row for part in parts for row in part]
    width = max(len(label) for label, _ in rows)
    LOGGER.info("\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows))
