"""Exports a checkpoint through Ultralytics' exporter, and verifies what was written before it is put into place."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.engine.exporter import Exporter, export_formats
from ultralytics.utils import LOGGER

from yolo_attn.coco.dataset.locations import is_coco_format
from yolo_attn.compat import HALF, HALVES_ONNX_ON_CPU, INT8, calibrates, is_half, makes_int8
from yolo_attn.engine.classification import stretches
from yolo_attn.engine.export.verify import RUNTIMES, difference_of_models, largest_difference
from yolo_attn.engine.preflight.checks import check_settings, one_line, read_checkpoint
from yolo_attn.engine.preflight.data_checks import check_plain_data
from yolo_attn.engine.run_folder import training_data
from yolo_attn.engine.summary import print_table
from yolo_attn.environment import filtered, replaced
from yolo_attn.errors import ExportError, UserError, did_you_mean, similar
from yolo_attn.extras import extra_of, installing, not_installed
from yolo_attn.files import check_writable, scratch_folder, write_bytes
from yolo_attn.safe.safetensors_file import SUFFIX, write_weights
from yolo_attn.weights.checkpoint_files import load_safe

SAFETENSORS = "safetensors"
TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2
ANY = sys.float_info.max
"""Tolerance of files of int8, which differ by design: any number."""

NEEDED = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
"""Packages that write and verify a format."""

NEEDED_BY_INT8 = {"openvino": ("nncf",)}
"""Packages that quantise it."""


def export(weights: str, fmt: str, settings: dict[str, Any], output: str | None = None, trust: bool = False) -> Path:
    """Export a checkpoint, verify the file, and put it beside the checkpoint.

    ONNX, TorchScript and OpenVINO files are run by their own runtimes on a drawn image, those of dynamic size at two
    sizes, and checked against the model; a safetensors file is read back. Ultralytics writes other formats, which are
    not verified. A file of int8 is run too, and may differ as much as it does.

    Args:
        weights: Checkpoint, `.pt` or `.safetensors`.
        fmt: One of Ultralytics' formats, or safetensors.
        settings: Ultralytics' settings. `imgsz` defaults to the training's, and `data`, on which files of int8 are
            calibrated, to what the checkpoint was trained on.
        output: The file, or folder where the format is one, to write instead.
        trust: Whether the checkpoint is read as Ultralytics does, which runs what it names.

    Returns:
        The file or folder.

    Raises:
        UserError: If anything given cannot be used; nothing was written then.
        ExportError: If the export failed or the file does not do what the model does; it is gone then.
    """
    suffix = _suffix(fmt)
    settings = _with_precision(fmt, dict(settings))
    int8 = settings.items() >= INT8.items()
    if lacking := not_installed(*NEEDED.get(fmt, ()), *(NEEDED_BY_INT8.get(fmt, ()) if int8 else ())):
        way = installing("export") if all(map(extra_of, lacking)) else f"pip install {' '.join(lacking)}"
        raise UserError(f"--format {fmt}{' --int8' * int8} needs {' and '.join(lacking)}, not installed here: {way}")
    model, _ = read_checkpoint(weights, trust=trust)
    defaults: dict[str, Any] = {"imgsz": model.args.get("imgsz") or 640, "batch": 1, "data": None}
    if int8:
        defaults["data"] = training_data(weights, model.args)
    if fmt == "onnx":
        defaults["simplify"] = not not_installed("onnxslim")
    settings = {**defaults, **settings}
    args = check_settings({**settings, **({} if fmt == SAFETENSORS else {"format": fmt}), "mode": "export"})
    for name in ("data", "split"):
        if settings.get(name) and not (fmt != SAFETENSORS and calibrates(args)):
            raise UserError(f"--{name} {settings[name]}: only files of int8 are calibrated on data; give --int8 too")
    if output and not output.endswith(suffix):
        raise UserError(f"--output {output}: expected a name that ends in {suffix}")
    target = (
        Path(output) if output else Path(weights).absolute().with_name(f"{Path(weights).stem}{'_int8' * int8}{suffix}")
    )
    if target.resolve() == Path(weights).resolve():
        raise UserError(f"--weights {weights}: the export would replace it; give --output")
    if not target.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {target.parent}")
    check_writable(target.parent, "--output")
    if args.data and not is_coco_format(args.data):
        check_plain_data(args.data, args.split or "val", model.task)
    with scratch_folder(target.parent) as temporary:
        write = _write_safetensors if fmt == SAFETENSORS else _write
        try:
            written, facts = write(model, weights, temporary, vars(args))
        except OSError as error:
            raise ExportError(f"--format {fmt}: {target}: {error.strerror or error}; nothing was written") from error
        _put(written, target, temporary)
    if stretches(model):
        facts.append(("images", "to be resized to a square; Ultralytics crops them for exported files"))
    print_table([("exported", str(target)), ("size", f"{_size(target) / 1e6:.1f} MB"), *facts])
    return target


def _suffix(fmt: str) -> str:
    known = dict(zip(*(export_formats()[column][1:] for column in ("Argument", "Suffix")), strict=True))
    known[SAFETENSORS] = SUFFIX
    if fmt not in known:
        hint = did_you_mean(similar(fmt, known)) or f"; formats are {', '.join(known)}"
        raise UserError(f"--format {fmt}: no such format{hint}")
    return known[fmt]


def _with_precision(fmt: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the precision under this Ultralytics' own name; what would not become so is refused."""
    quantize = settings.pop("quantize", None)
    if quantize not in (None, 8, 16, 32):
        raise UserError(
            f"quantize={quantize}: expected 8, 16 or 32; `yolo-attn export model=…` takes all of Ultralytics'"
        )
    int8 = bool(settings.pop("int8", False)) or quantize == 8
    half = bool(settings.pop("half", False)) or quantize == 16
    on_cpu = str(settings.get("device") or "cpu") == "cpu"
    if half and on_cpu and (fmt == "torchscript" or (fmt == "onnx" and not HALVES_ONNX_ON_CPU)):
        raise UserError(f"--half: {fmt} files of half precision are made on a GPU only; give --device 0")
    if fmt == SAFETENSORS and settings.get("dynamic"):
        raise UserError("--dynamic: means nothing to safetensors, which holds no graph")
    if int8 and half:
        raise UserError("--int8 and --half exclude each other")
    if int8 and not makes_int8(fmt):
        raise UserError(f"--int8: this Ultralytics makes no {fmt} files of int8")
    return {**settings, **(INT8 if int8 else HALF if half else {})}


def _write(model: Any, weights: str, folder: Path, settings: dict[str, Any]) -> tuple[Path, list[tuple[str, str]]]:
    """Let Ultralytics export into a folder, and verify the file."""
    fmt = settings["format"]
    original = deepcopy(model)
    model.pt_path = str(folder / f"{Path(weights).stem}.exported")  # its suffix is replaced wherever the path has it
    exporter = Exporter(overrides=settings)
    LOGGER.info(f"exporting {weights} to {fmt} …")
    with _quiet(), replaced(torch.jit.ScriptModule, save=_save_script):
        try:
            written = exporter(model=model)
        except UserError:
            raise
        except ImportError as error:
            package = (error.name or str(error)).partition(".")[0]
            raise UserError(f"--format {fmt} needs the package {package}, which is not installed") from error
        except OSError:
            raise
        except (AssertionError, ValueError, TypeError, NotImplementedError, SystemError) as error:
            raise UserError(f"Ultralytics cannot export so: {one_line(error)}") from error
        except Exception as error:  # a graph may make its converter raise anything
            raise ExportError(f"--format {fmt}: the export failed: {one_line(error)}") from error
    file = Path(str(written))
    data = exporter.args.data
    facts = [("calibrated on", f"{exporter.args.split or 'val'} of {data}")] if data else []
    if fmt not in RUNTIMES:
        return file, [*facts, ("verified", f"no: there is no check for {fmt} here")]
    batch, channels, height, width = exporter.im.shape
    shapes: list[tuple[int, ...]] = [(batch, channels, height, width)]
    if exporter.args.dynamic:
        step = int(max(model.stride.max(), 32))
        shapes.append((batch + 1, channels, height + step, width + 2 * step))
    tolerance = ANY if data else HALF_TOLERANCE if is_half(exporter.args) else TOLERANCE
    try:
        with _quiet():
            largest = largest_difference(file, exporter, original, shapes)
    except Exception as error:  # a runtime may raise anything of a file that it cannot run
        raise ExportError(f"--format {fmt}: the file was written, but does not run: {one_line(error)}") from error
    if largest is None:
        reason = "no: the model finds nothing in the drawn image; without nms=True all is compared"
        return file, [*facts, ("verified", reason)]
    how = " and ".join("×".join(map(str, shape)) for shape in shapes)
    return file, [*facts, *_verdict(fmt, largest, tolerance, f"against the model, input {how}")]


def _save_script(module: Any, file: str, **kwargs: Any) -> None:
    """Save a TorchScript module; PyTorch ends the process where it writes into a file itself and the disk is full."""
    stream = io.BytesIO()
    torch.jit.save(module, stream, **kwargs)
    write_bytes(Path(file), stream.getvalue())


def _write_safetensors(
    model: Any, weights: str, folder: Path, settings: dict[str, Any]
) -> tuple[Path, list[tuple[str, str]]]:
    """Write a model's tensors into a folder, read them back, and compare the two models."""
    half = is_half(SimpleNamespace(**settings))
    file = folder / f"{Path(weights).stem}{SUFFIX}"
    write_weights(model, file, half)
    try:
        found: Any = load_safe(file)
    except UserError as error:
        raise UserError(
            f"--weights {weights}: its tensors are not those of its model YAML, as after fuse() or a change by hand; "
            "such a model has no safetensors file"
        ) from error
    largest = difference_of_models(found, deepcopy(model).half().float() if half else model)
    return file, _verdict(SAFETENSORS, largest, TOLERANCE, "the same tensors in a model built from the file's YAML")


def _verdict(fmt: str, largest: float, tolerance: float, how: str) -> list[tuple[str, str]]:
    """What to print of a good file.

    Raises:
        ExportError: If it is not good.
    """
    if not largest <= tolerance:
        raise ExportError(
            f"--format {fmt}: the file does not do what the model does: largest difference {largest:.1e} of a "
            f"channel's largest value, {tolerance:.0e} are allowed; it was deleted"
        )
    limit = ", without a limit: yolo-attn val says what int8 costs" if tolerance == ANY else ""
    return [("verified", how), ("largest difference", f"{largest:.1e} of a channel's largest value{limit}")]


def _put(written: Path, target: Path, temporary: Path) -> None:
    """Put a file or folder into place, of an earlier export's too.

    Raises:
        UserError: If something else is there.
    """
    if target.exists() and target.is_dir() != written.is_dir():
        raise UserError(
            f"{target} is there, and is a {'folder' if target.is_dir() else 'file'}; choose another --output"
        )
    if target.is_dir():
        others = _names(target) - _names(written)
        if others:
            raise UserError(
                f"{target} is there, with other files: {', '.join(sorted(others))}; choose another --output"
            )
        before = target.rename(temporary / "before")
        try:
            written.replace(target)
        except BaseException:
            before.replace(target)
            raise
    else:
        written.replace(target)


def _names(folder: Path) -> set[str]:
    """What lies in a folder and below."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def _size(path: Path) -> int:
    return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())


@contextmanager
def _quiet() -> Iterator[None]:
    """Show only warnings of Ultralytics' exporter, which names the temporary folder, and of NNCF."""

    def only_warnings(record: logging.LogRecord) -> bool:
        return record.levelno == logging.WARNING

    nncf = logging.getLogger("nncf")
    with filtered(LOGGER, only_warnings), filtered(nncf, only_warnings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
