"""From the pixels of a model's input back to those of the picture."""

import pytest
import torch

from yolo_attn.engine.validation.coordinates import Frame


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_points_are_restored_at_least_in_float32(dtype):
    """Picture 1000 × 2000, scaled by 0.5, 12 rows of padding above: the input's pixel (301, 402) is (602, 780)."""
    frame = Frame(1000, 2000, (0.5, 0.5), (0.0, 12.0))
    points = torch.tensor([[301.0, 402.0], [-5.0, 5000.0]], dtype=dtype)
    restored = frame.restore(points)
    assert restored.tolist() == [[602, 780], [0, 1000]]
    assert restored.dtype == torch.promote_types(dtype, torch.float32)


def test_half_precision_does_not_round_the_frame():
    """float16 has steps of 2 beyond 2048, and 1.1 is none of its numbers."""
    restored = Frame(4000, 4001, (1.1, 1.1), (0.3, 0.0)).restore(torch.tensor([[1030.0, 5000.0]], dtype=torch.float16))
    assert restored[0].tolist() == pytest.approx([(1030 - 0.3) / 1.1, 4000], abs=1e-3)
