"""What a training says of its attention at the end: whether the gates do anything."""

from typing import TYPE_CHECKING, Any

from ultralytics.nn.autobackend import AutoBackend

from yolo_attn.plugin.gate_statistics import gates_line
from yolo_attn.plugin.gates import attention_layers, label_of, measure_gates

if TYPE_CHECKING:
    from yolo_attn.engine.trainer import RunTrainer

PICTURES = 32
"""How many pictures, from all over the validated split, gates are measured on: they pass the network one by one."""


def trained_gates(trainer: "RunTrainer") -> str | None:
    """A line on the gates of a training's best weights, on pictures as they are validated; None without attention.

    Args:
        trainer: A trainer that has validated its best weights.
    """
    if not attention_layers(trainer.model):
        return None
    file = trainer.best if trainer.best.exists() else trainer.last
    model: Any = AutoBackend(str(file), device=trainer.device, fuse=False, verbose=False).model
    validator, loader = trainer.validator, trainer.validator.dataloader
    data = loader.dataset
    chosen = spread(len(data), PICTURES)
    batches = (validator.preprocess(loader.collate_fn([data[i]]))["img"] for i in chosen)
    found = {label_of(model, name): gate for name, gate in measure_gates(model, batches).items()}
    return f"attention, {len(chosen)} pictures of {trainer.args.split or 'val'}: {gates_line(found)}"


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, evenly spread, ascending."""
    taken = min(count, most)
    return [n * count // taken for n in range(taken)]
