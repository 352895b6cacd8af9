"""SE: channel attention by an MLP on the channel means.

Paper: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.

    out = x · σ(fc2(ReLU(fc1(mean_hw x))))        C → C/r → C

From the code in circulation (github.com/moskomule/senet.pytorch; the authors' own is for Caffe):
- Neither layer has a bias. r = 16 throughout.
- Place in the authors' networks: the end of every residual block, before the addition.

Where this differs, and why:
- C/r is rounded down but never below 1, for the narrow blocks of small detectors.
- The mean is a plain one: the backward of adaptive pooling is not deterministic on CUDA.
- Mean, gate and product are float32 at least; the MLP runs in the autocast dtype.
"""

from torch import Tensor, nn

from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, check_positive_ints, gated, mean


class SE(AttentionLayer):
    """Gate channels by an MLP on their means (Hu et al., CVPR 2018).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        ratio: r, by which C is reduced inside, to max(1, C // r).
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, channels: int, *, ratio: int = 16, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("SE", channels=channels, ratio=ratio)
        middle = max(1, channels // ratio)
        self.fc1 = nn.Linear(channels, middle, bias=False)
        self.fc2 = nn.Linear(middle, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        attention = self.fc2(self.fc1(cast(mean(x, (2, 3)), self.fc1.weight.dtype)).relu())
        return gated(x, at_least_float32(attention).sigmoid()[:, :, None, None], gain=self.gain)
