"""Pictures through the rows of a model, only as far as they are needed, and the model as it was afterwards."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _EnoughError(Exception):
    """Ends a forward pass behind the last row of interest."""


def run_rows(model: Any, batches: Iterable[Tensor], last: int) -> None:
    """Run pictures through a model's first rows, as in evaluation and without gradients; hooks see what they do.

    Args:
        model: A model of Ultralytics'; its modules have their modes back afterwards, whatever happens.
        batches: Pictures (B, 3, H, W) between 0 and 1.
        last: The row to end behind, as Ultralytics' table counts them.
    """

    def stop(*_: Any) -> None:
        raise _EnoughError

    modes = {module: module.training for module in model.modules()}
    first = next(model.parameters())
    hook = model.model[last].register_forward_hook(stop)
    try:
        model.eval()
        with torch.no_grad():
            for pictures in batches:
                try:
                    model.predict(pictures.to(first.device, first.dtype))
                except _EnoughError:
                    continue
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
