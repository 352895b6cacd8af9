"""Which forms of the layers may run: one switch for all, kept in the environment, where worker processes find it too.

0      the formulas of layers/ and nothing else
auto   the fast PyTorch forms; the default
1      Triton kernels as well, on CUDA tensors: off by default, because they are untried on a GPU
"""

import os

VARIABLE = "YOLO_ATTN_KERNELS"

MODES = ("0", "1", "auto")


def set_kernels(mode: str | int) -> None:
    """Choose the forms in which the layers compute, from now on and in processes that are started from here.

    Args:
        mode: "0" for the plain formulas, "auto" for the fast PyTorch forms where they apply (what runs if nothing is
            chosen), "1" for Triton kernels too, on CUDA tensors; these are untried on a GPU.

    Raises:
        ValueError: If it is another one.
    """
    os.environ[VARIABLE] = _checked(mode, "set_kernels")


def kernels_mode() -> str:
    """Return what was chosen: "0", "1" or "auto".

    Raises:
        ValueError: If the environment variable YOLO_ATTN_KERNELS has another value.
    """
    return _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)


def _checked(mode: object, source: str) -> str:
    text = str(mode) if type(mode) is int else mode
    if text not in MODES:
        raise ValueError(f"{source}: expected 0, 1 or auto, got {mode!r}")
    return str(text)
