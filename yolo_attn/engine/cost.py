"""What a model costs, and each of its rows: parameters and operations."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from thop import profile
from ultralytics.utils.torch_utils import get_num_params

from yolo_attn.engine.tasks import task_of


def cost_of(described: dict[str, Any], size: int) -> tuple[int, float]:
    """Parameters of the model that a dictionary describes, and its GFLOPs for one image of `size` × `size` pixels.

    Ultralytics' own figures count 32 pixels and scale, which makes too much of what is done once a map.
    """
    task = task_of(described["head"][-1][2])
    assert task
    model: Any = task.model(described, verbose=False)
    parameters, strides = get_num_params(model), model.stride
    model.to("meta").model[-1].stride = strides
    operations = profile(model, inputs=[torch.zeros(1, 3, size, size, device="meta")], verbose=False)[0]
    return parameters, operations * 2 / 1e9


@dataclass(frozen=True)
class RowCost:
    """What a row makes and costs, for one image.

    Attributes:
        shape: Of its output, without the batch; of the first where it makes several, and empty where it makes none.
        parameters: Their number.
        gflops: Operations, 10⁹; those of all rows are the model's of `cost_of`.
    """

    shape: tuple[int, ...]
    parameters: int
    gflops: float


def row_costs(model: Any, size: int) -> list[RowCost]:
    """Run one image of `size` × `size` pixels through a copy of a model, and count what each row does.

    It runs on the meta device, where nothing is computed, or on the CPU where a row looks at values.
    """
    try:
        return _row_costs(model, size, "meta")
    except Exception:  # a layer of the user's own may raise anything
        return _row_costs(model, size, "cpu")


def _row_costs(model: Any, size: int, device: str) -> list[RowCost]:
    strides = getattr(model, "stride", None)
    model = copy.deepcopy(model).float().to(device).eval()
    if strides is not None:
        model.model[-1].stride = strides
    taken: dict[int, Any] = {}
    made: dict[int, Any] = {}

    def before(row: Any, inputs: tuple[Any, ...]) -> None:
        taken[row.i] = [list(x) if isinstance(x, list) else x for x in inputs]  # heads change the list

    def after(row: Any, inputs: tuple[Any, ...], output: Any) -> None:
        made[row.i] = output

    hooks = [row.register_forward_pre_hook(before) for row in model.model]
    hooks += [row.register_forward_hook(after) for row in model.model]
    with torch.no_grad():
        model(torch.zeros(1, model.yaml.get("channels", 3), size, size, device=device))
    for hook in hooks:
        hook.remove()
    found = []
    for row in model.model:
        operations = profile(row, inputs=taken[row.i], verbose=False)[0] if row.i in taken else 0
        found.append(RowCost(_shape(made.get(row.i)), get_num_params(row), operations * 2 / 1e9))
    return found


def _shape(output: Any) -> tuple[int, ...]:
    if isinstance(output, list | tuple | dict) and output:
        return _shape(next(iter(output.values() if isinstance(output, dict) else output)))
    return tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
