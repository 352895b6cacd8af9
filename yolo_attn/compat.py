"""Differences between Ultralytics' releases; what is wrapped under another name in some stands in patches/table.py."""

import contextlib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from ultralytics.utils import DEFAULT_CFG_DICT, ops, patches

HALF: dict[str, Any] = {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}
"""The setting by which an exporter halves precision."""

INT8: dict[str, Any] = {"quantize": 8} if "quantize" in HALF else {"int8": True}
"""The setting by which an exporter makes files of int8."""

ALWAYS_INT8 = {"axelera", "deepx", "edgetpu", "hailo", "imx", "qnn", "xilinx"}
"""Formats that are quantised without being asked for."""

HALVES_ONNX_ON_CPU = "quantize" in HALF
"""Whether ONNX files of half precision can be made on a CPU; earlier releases write float32 there and do not say so."""

open_image = getattr(patches, "_image_open", Image.open)
"""Pillow's `open`; later releases replace that of Pillow by one that looks for plug-ins."""


def loads(file: str) -> bool:
    """Return whether Ultralytics' data sets can read an image that `patches.imread` can.

    Early releases use OpenCV's own reader, which fails on rotated TIFFs.
    """
    import cv2  # takes a while, as the next, and registering needs neither
    from ultralytics.data import base

    return hasattr(base, "imread") or cv2.imread(file) is not None


def val_folders() -> list[str]:
    """Return the names that a classifier's folder of val may have, the first that is there being used."""
    from ultralytics.data.utils import check_cls_dataset

    known = inspect.unwrap(check_cls_dataset).__code__.co_consts  # early releases do not know "valid"
    return [name for name in ("val", "validation", "valid") if name in known]


def is_half(args: Any) -> bool:
    """Return whether an exporter's settings ask for half precision."""
    return getattr(args, "quantize", None) == 16 or bool(getattr(args, "half", False))


def calibrates(args: Any) -> bool:
    """Return whether an exporter's settings make a file whose numbers are fitted to images."""
    from ultralytics.engine.exporter import export_formats

    asked = getattr(args, "quantize", None) in {8, "w8a16"} or bool(getattr(args, "int8", False))
    formats = export_formats()
    takes = dict(zip(formats["Argument"], formats.get("Arguments", ()), strict=False)).get(args.format)
    return (asked or args.format in ALWAYS_INT8) and (takes is None or "data" in takes)


def makes_int8(fmt: str) -> bool:
    """Return whether this release quantises files of a format; some early ones write float32 and do not say so."""
    from ultralytics.engine import exporter

    return fmt in getattr(
        exporter, "INT8_FORMATS", {"openvino", "engine", "coreml", "saved_model", "tflite", "edgetpu"}
    )


def unwrapped(model: Any) -> Any:
    """Return the model that is trained, without wrappers for several processes, compiling and distilling."""
    for wrapper in ("module", "_orig_mod", "student_model"):
        model = getattr(model, wrapper, model)
    return model


def load_checkpoint(file: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model and the content of a checkpoint, read by Ultralytics' own loader."""
    from ultralytics.nn import tasks

    return (getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight)(file)


def native_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return Ultralytics' masks at full resolution; before 8.3.157 Ultralytics fails where there is no box.

    Args:
        prototypes: (P, h, w).
        coefficients: (N, P).
        boxes: Corners in pixels of the model's input, (N, 4).
        size: Height and width of the model's input, H and W, pixels.

    Returns:
        (N, H, W).
    """
    if not len(boxes):
        return torch.zeros((0, *size), dtype=torch.bool, device=boxes.device)
    return ops.process_mask_native(prototypes, coefficients, boxes, size)


def fill_stats(stats: dict[str, list[Tensor]] | None) -> None:
    """Complete a validator's statistics, which early releases cannot join if no image has a label or a detection."""
    for values in (stats or {}).values():
        if not values:
            values.append(torch.zeros(0))


def is_settable(owner: Any, name: str) -> bool:
    """Return whether an attribute can be set: from 8.4.0 to 8.4.7 a head derives `end2end` from its layers."""
    found = getattr(type(owner), name, None)
    return not isinstance(found, property) or found.fset is not None


def with_nms(model: nn.Module, args: Any) -> nn.Module | None:
    """Return what exporters make of a model where NMS goes into the file; None without NMS, and in early releases."""
    from ultralytics.engine import exporter

    return exporter.NMSModel(model, args) if getattr(args, "nms", False) and hasattr(exporter, "NMSModel") else None


def gives_queries(head: nn.Module) -> bool:
    """Return whether a head is RT-DETR's of an early release: it gives queries, with a score for every class each."""
    from ultralytics.nn.modules import RTDETRDecoder

    return isinstance(head, RTDETRDecoder) and not hasattr(head, "postprocess")


def imread(read: Callable[..., Any], filename: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
    """Read an image by `read`, OpenCV's, which kills the process where the name's bytes are not UTF-8.

    Such a file is opened here, and OpenCV gets the open file's name. Ultralytics 8.3.116 and older read a detector's
    images by OpenCV's function, and some later releases a classifier's.

    Returns:
        The image; None where there is none, as OpenCV's.
    """
    try:
        os.fspath(filename).encode()
    except UnicodeEncodeError:
        with contextlib.suppress(OSError):
            if Path(filename).is_file():
                with Path(filename).open("rb") as file:
                    return read(f"/dev/fd/{file.fileno()}", *args, **kwargs)
        return None
    return read(filename, *args, **kwargs)
