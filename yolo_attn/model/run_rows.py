"""Images through the rows of a model: through a whole model's first rows, or through bare rows one after the other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


class _EnoughError(Exception):
    """Ends a forward pass behind the last row of interest."""


def each_row(
    rows: Iterable[Any], x: Any, run: Callable[[Any, Any], Any] = lambda row, x: row(x)
) -> Iterator[tuple[Any, Any]]:
    """Run rows in their order, each on the rows that its `f` names, and yield each with its output.

    `x`, (B, C, H, W), is what the first row takes; `run` makes a row's output of what it takes.
    """
    outputs: list[Any] = []
    for row in rows:
        if row.f != -1:
            x = outputs[row.f] if isinstance(row.f, int) else [x if j == -1 else outputs[j] for j in row.f]
        x = run(row, x)
        outputs.append(x)
        yield row, x


def run_rows(model: Any, batches: Iterable[Tensor], last: int) -> None:
    """Run images (B, 3, H, W) through a model's rows up to `last`, as in evaluation and without gradients.

    Hooks see what they do. The modules have their modes back afterwards, also if it raises.
    """

    def stop(*_: Any) -> None:
        raise _EnoughError

    modes = {module: module.training for module in model.modules()}
    first = next(model.parameters())
    hook = model.model[last].register_forward_hook(stop)
    try:
        model.eval()
        with torch.no_grad():
            for images in batches:
                try:
                    model.predict(images.to(first.device, first.dtype))
                except _EnoughError:
                    continue
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
