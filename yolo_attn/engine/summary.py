"""The short table that a training ends with."""

from typing import TYPE_CHECKING

from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops, get_num_params

from yolo_attn.coco.evaluate import score_text

if TYPE_CHECKING:
    from yolo_attn.engine.trainer import CocoTrainer

ROWS = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "AP small", "APm": "AP medium", "APl": "AP large"}


def print_summary(trainer: "CocoTrainer") -> None:
    """Print what was reached, what the model costs, and where everything is."""
    model = getattr(trainer.model, "module", trainer.model)
    rows = []
    if trainer.validator.coco:
        metrics = trainer.validator.coco.metrics
        rows += [(f"COCO {label}", score_text(metrics[name])) for name, label in ROWS.items()]
    else:
        own = (trainer.metrics or {}).get("metrics/mAP50-95(B)")
        rows += [("Ultralytics mAP50-95", "-" if own is None else score_text(own))]
    size = trainer.args.imgsz
    rows += [
        ("parameters", f"{get_num_params(model):,}"),
        ("GFLOPs", f"{get_flops(model, size):.2f} at {size} px"),
        ("best weights", str(trainer.best if trainer.best.exists() else trainer.last)),
        ("plots", str(trainer.save_dir)),
    ]
    width = max(len(label) for label, _ in rows)
    LOGGER.info("\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows))
