"""Which form runs on a tensor, and what says so."""

import functools

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from yolo_attn.kernels.switch import VARIABLE, kernels_mode

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_is_compiling = getattr(torch.compiler, "is_compiling", None) or torch._dynamo.is_compiling  # PyTorch 2.1 has the other


def runs_fast(x: Tensor) -> bool:
    """Whether a fast form may take x; else the plain formula must.

    The formula runs where others read, transform or rewrite it: under torch.compile, tracing, export, functorch's
    transforms and forward-mode differentiation, and on tensor subclasses; on tensors of no element, of an unusual dtype
    or without a batch; and where it was chosen.
    """
    return not (
        _is_compiling()  # first: what follows is not for the compiler
        or torch.jit.is_tracing()
        or type(x) not in (Tensor, nn.Parameter)
        or x.dim() != 4
        or x.dtype not in DTYPES
        or not x.numel()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or kernels_mode() == "0"
    )


def runs_triton(x: Tensor) -> bool:
    """Whether the Triton kernels may take an x that a fast form may take."""
    return x.is_cuda and x.dtype != torch.float64 and kernels_mode() == "1" and has_triton()


@functools.cache
def has_triton() -> bool:
    """Whether Triton can be imported."""
    try:
        import triton  # noqa: F401  only a whole import shows that it works
    except Exception:  # a broken installation may raise anything
        return False
    return True


def described() -> str:
    """Return a line on what was chosen.

    Raises:
        ValueError: If the environment variable has a value that it cannot have.
    """
    if kernels_mode() == "0":
        return f"plain formulas only ({VARIABLE}=0)"
    text = f"fast PyTorch forms of SimAM, NAM and GAM ({VARIABLE}={kernels_mode()})"
    if kernels_mode() == "auto":
        return f"{text}; Triton kernels off, they are untried on a GPU"
    if not has_triton():
        return f"{text}; no Triton that can be imported"
    if not torch.cuda.is_available():
        return f"{text}; Triton kernels need a CUDA device"
    return f"{text}; Triton kernels of SimAM on CUDA tensors, untried on a GPU"
