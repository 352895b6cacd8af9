"""What rows of networks share: checks of their numbers, and initial weights."""

from torch import nn


def check_ints(**numbers: object) -> None:
    """Raise a ValueError unless every number is an int above 0."""
    for name, number in numbers.items():
        if type(number) is not int or number < 1:
            raise ValueError(f"{name} has {number!r}, expected an int above 0")


def draw_weights(layer: nn.Module, std: float | None) -> None:
    """Draw the weights of a layer's convolutions and linear layers with a standard deviation, biases being 0.

    None leaves PyTorch's own initial values.

    Raises:
        ValueError: If the deviation is no number of at least 0.
    """
    if std is None:
        return
    if type(std) not in (int, float) or not std >= 0:
        raise ValueError(f"std is {std!r}, expected a number of at least 0 or null")
    for part in layer.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.normal_(part.weight, 0, std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
