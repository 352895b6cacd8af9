"""How classifiers take images: cropped to a square by Ultralytics, or stretched to it where a model YAML says so."""

from collections.abc import Callable
from typing import Any

from torch import nn

KEY = "stretch"
"""Key of a model YAML: true for a classifier whose images are resized to a square, and not cropped."""


def stretches(model: Any) -> bool:
    """Return whether a model is a classifier that takes images stretched to a square."""
    return isinstance(model, nn.Module) and getattr(model, "yaml", {}).get(KEY) is True


def adapted(transforms: Any, size: int, stretch: bool, degrees: float = 0.0) -> Any:
    """Return Ultralytics' transforms of a classifier with what its settings do not offer.

    Args:
        transforms: torchvision's, as Ultralytics composes them for training or validation.
        size: Of the square, pixels.
        stretch: Whether images are resized to the square, in place of every crop.
        degrees: By how much images are rotated at random, at most; the corners become black.
    """
    import torchvision.transforms as T

    steps = list(transforms.transforms)
    if stretch:
        crops = (T.RandomResizedCrop, T.Resize, T.CenterCrop)
        steps = [T.Resize((size, size)), *(step for step in steps if not isinstance(step, crops))]
    if degrees:
        steps.insert(1, T.RandomRotation(degrees))
    return T.Compose(steps)


def preprocess(run: Callable[..., Any], predictor: Any, images: Any) -> Any:
    """Ultralytics' `ClassificationPredictor.preprocess`, with images stretched where the model takes them so."""
    network = getattr(predictor.model, "model", None)
    if stretches(network):
        from ultralytics.data.augment import classify_transforms

        size = max(predictor.imgsz)
        predictor.transforms = adapted(classify_transforms(size), size, stretch=True)
        predictor.device_transform = None  # of Ultralytics' own crop
    return run(predictor, images)
