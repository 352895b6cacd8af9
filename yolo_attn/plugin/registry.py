"""Which names a model YAML may use for attention layers."""

from difflib import get_close_matches

from torch import nn

from yolo_attn.layers import GAM, NAM, SimAM

LAYERS: dict[str, type[nn.Module]] = {layer.__name__: layer for layer in (SimAM, NAM, GAM)}


def near_misses(name: str, known: list[str]) -> list[str]:
    """Names in `known` that a user who wrote `name` may have meant, best first.

    A name that contains a layer's name counts too, since ports write `GAM_Attention` and `NAMAttention`.
    """
    contained = [layer for layer in LAYERS if layer.lower() in name.lower()]
    close = get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.6)
    return list(dict.fromkeys(contained + [k for k in known if k.lower() in close]))
