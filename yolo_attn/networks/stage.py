"""Parts of torchvision's classifiers as rows: a network's children one after the other, with its initial weights."""

import functools
from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import init

NETWORKS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    "mobilenet_v2",
)
"""torchvision's names of the networks that rows take parts of."""

BEHIND = {"avgpool", "fc", "classifier"}
"""Children that are a network's head."""


class Stage(nn.Sequential):
    """Some children of a network of torchvision's: (B, C, H, W) to (B, its channels, smaller H, smaller W).

    Weights are drawn as torchvision draws them: convolutions by He's rule for the outputs (arXiv 1502.01852), biases 0,
    batch norms 1 and 0.

    Args:
        channels: Of the input.
        network: torchvision's name, one of `NETWORKS`.
        first: Name of the first child: `conv1`, `layer2`; of networks that keep them so, `features.4`.
        last: Name of the last one; None for the first alone.

    Raises:
        ValueError: If there is no such network or child, the last comes before the first, or the input has other
            channels than the first takes.
    """

    def __init__(
        self, channels: int, *, network: str = "resnet50", first: str = "conv1", last: str | None = None
    ) -> None:
        chosen = _chosen(str(network), str(first), last if last is None else str(last))
        takes = _takes(chosen)
        if channels != takes:
            raise ValueError(f"{first} of {network} takes a map of {takes} channels, and gets one of {channels}")
        super().__init__(OrderedDict((name.replace(".", "_"), deepcopy(child)) for name, child in chosen.items()))
        self.to_empty(device=torch.empty(0).device)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    @staticmethod
    def outputs(network: str = "resnet50", first: str = "conv1", last: str | None = None) -> int:
        """Return the channels of the output."""
        return _outputs(str(network), str(first), last if last is None else str(last))


@functools.cache
def _outputs(network: str, first: str, last: str | None) -> int:
    chosen = _chosen(network, first, last)
    with torch.device("meta"):
        made: Tensor = nn.Sequential(*chosen.values())(torch.zeros(1, _takes(chosen), 64, 64))
    return made.shape[1]


def _chosen(network: str, first: str, last: str | None) -> dict[str, nn.Module]:
    """Return the children from the first to the last."""
    children = _children(network)
    names = list(children)
    for name in (first, last):
        if name is not None and name not in names:
            raise ValueError(f"{network} has no child {name!r}; it has {', '.join(names)}")
    begin, end = names.index(first), names.index(first if last is None else last)
    if end < begin:
        raise ValueError(f"{last} comes before {first} in {network}")
    chosen = {name: children[name] for name in names[begin : end + 1]}
    if not any(True for child in chosen.values() for _ in child.parameters()):
        raise ValueError(f"{first} of {network} has no weights; begin with a convolution before it")
    return chosen


def _takes(chosen: dict[str, nn.Module]) -> int:
    """Return the channels that the first convolution takes."""
    convolutions = (m for child in chosen.values() for m in child.modules() if isinstance(m, nn.Conv2d))
    return next(convolutions).in_channels


@functools.cache
def _children(network: str) -> dict[str, nn.Module]:
    """Return a network's children by name, without its head and without memory for weights."""
    if network not in NETWORKS:
        raise ValueError(f"network is {network!r}, expected one of {', '.join(NETWORKS)}")
    from torchvision import models

    with torch.device("meta"):
        whole: nn.Module = getattr(models, network)(weights=None)
    found: dict[str, nn.Module] = {}
    for name, child in whole.named_children():
        if name == "features":
            found |= {f"{name}.{n}": each for n, each in child.named_children()}
        elif name not in BEHIND:
            found[name] = child
    return found
