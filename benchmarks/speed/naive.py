"""SimAM, NAM and GAM as papers and blogs write them: what ours are compared with."""

import torch
from torch import Tensor, nn

from yolo_attn.layers import GAM, NAM, SimAM


class NaiveSimAM(nn.Module):
    """The gate from plain operations."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x."""
        d = (x - x.mean((2, 3), keepdim=True)).pow(2)
        n = x.shape[2] * x.shape[3] - 1
        return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / n + 1e-4)) + 0.5)


class NaiveNAM(nn.Module):
    """Batch norm, and the weights along the last dimension."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x."""
        scale = self.bn.weight.detach().abs()
        z = self.bn(x).permute(0, 2, 3, 1).contiguous() * (scale / scale.sum())
        return torch.sigmoid(z.permute(0, 3, 1, 2).contiguous()) * x


class NaiveGAM(nn.Module):
    """Linear layers between permutes, then convolutions with their batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 4
        self.mlp = nn.Sequential(nn.Linear(channels, middle), nn.ReLU(inplace=True), nn.Linear(middle, channels))
        first, second = (nn.Conv2d(*c, 7, padding=3) for c in ((channels, middle), (middle, channels)))
        norms = nn.BatchNorm2d(middle), nn.BatchNorm2d(channels)
        self.space = nn.Sequential(first, norms[0], nn.ReLU(inplace=True), second, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x."""
        batch, channels, height, width = x.shape
        attention = self.mlp(x.permute(0, 2, 3, 1).reshape(batch, -1, channels)).view(batch, height, width, channels)
        u = x * attention.permute(0, 3, 1, 2).sigmoid()
        return u * self.space(u).sigmoid()


def naive(layer: SimAM | NAM | GAM) -> nn.Module:
    """The naive form of a layer with default options, with the layer's weights and statistics."""
    if isinstance(layer, SimAM):
        return NaiveSimAM()
    made: nn.Module
    if isinstance(layer, NAM):
        made = NaiveNAM(layer.channel.bn.num_features)
    else:
        made = NaiveGAM(layer.channel.fc1.in_channels)
        for before, after in zip((layer.spatial.bn1, layer.spatial.bn2), (made.space[1], made.space[4]), strict=True):
            after.eps, after.momentum = before.eps, before.momentum
    own, given = made.state_dict(), layer.state_dict()
    made.load_state_dict({key: value.reshape(own[key].shape) for key, value in zip(own, given.values(), strict=True)})
    return made


def with_naive(model: nn.Module) -> nn.Module:
    """The model itself, each SimAM, NAM and GAM in it replaced by its naive form."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, SimAM | NAM | GAM):
                made = naive(child)
                for key in ("i", "f", "type", "np"):  # by which Ultralytics finds its way through the rows
                    if hasattr(child, key):
                        setattr(made, key, getattr(child, key))
                setattr(parent, name, made)
    return model
