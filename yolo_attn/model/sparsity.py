"""NAM's sparsity penalty, p·(Σ|γ| + Σ|λ|), inside the model's own loss (Liu et al., arXiv 2111.12419, p = 1e-4).

p stands in the model YAML as `nam_sparsity`, so it lives in the model, its checkpoints and resumed runs, and in every
worker of a multi-GPU run. Ultralytics' losses of boxes, masks and points are means over a batch times its size; so is
the penalty. Its gradient is then p·sign(γ) for each image, however they are split into batches, accumulated steps or
ranks. The losses of classifiers and RT-DETR are plain means; there the penalty is added once a batch, as they are.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from yolo_attn.errors import UserError
from yolo_attn.layers import NAM
from yolo_attn.layers.nam import SCALE_NORMS
from yolo_attn.model.rows import literal

KEY = "nam_sparsity"
MEAN_LOSS = {"ClassificationModel", "RTDETRDetectionModel"}
"""Models whose loss is a mean over the batch, not times its size; by name, since a reload makes other classes."""

LOSS_NAME = "nam_loss"
"""Name of the penalty among the losses; results.png shows losses whose name says so."""


def add_penalty(
    compute: Callable[..., Any], model: Any, batch: dict[str, Any], preds: Any = None
) -> tuple[Tensor, Any]:
    """Ultralytics' loss with the penalty that the model's YAML asks for.

    Args:
        compute: The model's own `loss`.
        model: The model.
        batch: With "img", (B, C, H, W).
        preds: Predictions, where they are there already.

    Returns:
        The loss to descend, and its parts with the penalty as one more.
    """
    loss, parts = compute(model, batch, preds)
    strength = literal(model.yaml.get(KEY))
    if not strength:
        return loss, parts
    penalty = strength * sum_of_scales(model)
    shown = penalty.detach()
    parts = {**parts, LOSS_NAME: shown} if isinstance(parts, dict) else torch.cat([parts, shown.reshape(1)])
    if not MEAN_LOSS & {kind.__name__ for kind in type(model).__mro__}:
        penalty = penalty * len(batch["img"])
    return (loss + penalty, parts) if loss.ndim == 0 else (torch.cat([loss, penalty.reshape(1)]), parts)


def sum_of_scales(model: nn.Module) -> Tensor:
    """Σ|γ| + Σ|λ| over the model's NAM layers; its gradient at 0 is 0."""
    sums = [s.abs().sum(dtype=torch.promote_types(s.dtype, torch.float32)) for s in scales_of(model)]
    return torch.stack(sums).sum()


def scales_of(model: nn.Module) -> list[Tensor]:
    """γ, of shape (C,), and λ, of shape (H0·W0,), of each of the model's NAM layers."""
    return [m.weight for m in model.modules() if isinstance(m, SCALE_NORMS)]


def check_sparsity(model: dict[str, Any], layers: list[type[nn.Module]]) -> None:
    """Check that a model dictionary's penalty is one, and has something to act on among the layers that its rows name.

    Raises:
        UserError: Naming the file.
    """
    file = model.get("yaml_file") or "model"
    has_nam = any(issubclass(layer, NAM) for layer in layers)
    misspelt = [key for key in model if get_close_matches(str(key).lower(), [KEY], cutoff=0.8) and key != KEY]
    if has_nam and misspelt:
        raise UserError(f"{file}: unknown key {misspelt[0]!r}; NAM's penalty is {KEY}")
    if KEY not in model:
        return
    strength = literal(model[KEY])
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength < float("inf"):
        raise UserError(f"{file}: {KEY}: {strength!r}, expected a number of at least 0, such as 0.0001")
    if strength and not has_nam:
        raise UserError(f"{file}: {KEY}: {strength}, but no row names NAM, so there is nothing to make sparse")
