"""What a model costs: parameters and operations."""

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
