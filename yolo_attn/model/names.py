"""Where the packaged model YAMLs are, which file a model name means, and names that mean a model with attention put in.

`yolov9t-gam.yaml`, `yolo11s-nam-backbone.yaml`: base, layer and place, where no file of that name is there.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from ultralytics.nn import tasks
from ultralytics.utils.checks import check_yaml
from yaml.reader import Reader

from yolo_attn.bounded_reading import load_yaml, read_plain, yaml_reason
from yolo_attn.errors import UserError, did_you_mean, like, one_line, similar
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.insertion import SHORT, describe, layer_named, put
from yolo_attn.model.registry import LAYERS

PACKAGE = Path(__file__).resolve().parents[1]
MODEL_YAMLS = next((f for f in (PACKAGE / "model_yamls", PACKAGE.parent / "model_yamls") if f.is_dir()), PACKAGE)
SCALED_NAME = re.compile(r"^(yolo(?:e-)?v?\d+)([nslmx])(.*)$")

UNSCALED_NAME = re.compile(r"^(yolo(?:e-)?v?\d+)[a-z](-.*)?$", re.IGNORECASE)
"""A name with a letter where its scale stands."""

PLACES = ("neck", "backbone", "stages", "blocks")
"""Places that a name may end with; without one it means the first."""

PLACE_WORDS = {"head": "neck", **{block.lower(): "blocks" for block in UNITS}}
"""What else users call a place."""

SUFFIXES = (".yaml", ".yml")


LARGEST_MODEL = 2**16
"""Bytes of a model YAML; Ultralytics' longest has 5,000."""


class ModelNameError(UserError, FileNotFoundError):
    """A model name that means no file, and no base, layer and place either."""


class ModelTextError(UserError, ValueError):
    """A file that is no YAML, or one beyond the bounds of `load_yaml`; Ultralytics' own is a ValueError too."""


def find_model_yaml(path: str | Path) -> tuple[Path, str] | None:
    """The file and scale that a model name such as `yolov8n-gam.yaml` means, where Ultralytics would not find it.

    A file of exactly this name comes first, and is Ultralytics' to load; then the file of the family beside it
    (`yolov8-gam.yaml`), then, for a bare name, a packaged YAML of either name. Only the file's own name is searched for
    a scale letter, never its folder.

    Returns:
        The existing file and the scale letter ("" where the name has none), or None where it is not ours to find.
    """
    path = Path(path)
    if path.is_file():
        return None
    scaled = SCALED_NAME.match(path.stem)
    family = f"{scaled[1]}{scaled[3]}{path.suffix}" if scaled else path.name
    folders = [path.parent, MODEL_YAMLS] if path.name == str(path) else [path.parent]
    for folder in folders:
        for name in (path.name, family):
            if (folder / name).is_file():
                return folder / name, scaled[2] if scaled else ""
    return None


def yaml_model_load(load: Any, path: str | Path) -> dict[str, Any]:
    """Load a model YAML by Ultralytics' own `load`, packaged names and those of base, layer and place included.

    Returns:
        The model dictionary with `scale` and, as given, `yaml_file`.

    Raises:
        ModelNameError: If there is no such file, naming what may have been meant.
        ModelTextError: If the file is no YAML, or too large a one.
        UserError: If it is no plain file.
    """
    found = find_model_yaml(path)
    _check_text(found[0] if found else Path(path))
    if found:
        file, scale = found
        return {**load(file), "scale": scale, "yaml_file": str(path)}
    try:
        return load(path)
    except FileNotFoundError:
        try:
            attended = _with_attention(Path(path))
        except UserError as error:
            raise like(FileNotFoundError(), error) from error
        if attended:
            return describe(attended[0], str(path), attended[1])
        near = _near(Path(path))
        if near:
            raise ModelNameError(f"{path}: no such model{near}") from None
        if any(map(layer_named, _words(Path(path)))):
            raise ModelNameError(
                f"{path}: no such model; names are BASE-LAYER.yaml or BASE-LAYER-PLACE.yaml, where BASE.yaml is "
                f"a model and PLACE is {', '.join(PLACES[:-1])} or {PLACES[-1]}"
            ) from None
        raise


def _check_text(file: Path) -> None:
    if not file.exists():
        return  # a name that Ultralytics knows
    text = Reader.NON_PRINTABLE.sub("", read_plain(file, LARGEST_MODEL).decode(errors="ignore"))
    try:
        load_yaml(text)  # without what Ultralytics leaves out
    except (ValueError, yaml.YAMLError) as error:
        raise ModelTextError(f"{file}: not YAML: {yaml_reason(error, text)}") from error


def read_model(name: str | Path, output: Path | None = None) -> tuple[str, str]:
    """The text of a model YAML, and the scale letter that its name gives it ("" where it gives none).

    Args:
        name: A file, or a name that we or Ultralytics know, with or without a scale letter.
        output: A file that is to be written, which must not be the one that the name means.

    Raises:
        UserError: If there is no such model, or it cannot be read, or would be written over.
    """
    path = Path(name)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{name}: expected a model YAML, such as yolov8n.yaml")
    found = _read(path, output)
    if found is None:
        raise ModelNameError(f"{name}: no such file, and no model that Ultralytics or yolo_attn knows{_near(path)}")
    return found


def check_scale(file: Path, text: str, scale: str) -> None:
    """Check that Ultralytics reads the scale of an edited model, "" for the first, off the name of the file to be, too.

    Raises:
        UserError: With a name that carries it.
    """
    scales = list(load_yaml(text).get("scales") or [""])
    meant, read = scale or scales[0], tasks.guess_model_scale(file)
    if meant != (read or scales[0]) and len(scales) > 1:
        found = (
            f"reads scale {read!r} off this name" if read else f"finds no scale in this name and takes {scales[0]!r}"
        )
        raise UserError(
            f"-o {file}: Ultralytics {found}, and the model's is {meant!r}; give it a name such as "
            f"yolov8{meant}-gam.yaml or yolo11{meant}-mine.yaml"
        )


def _read(path: Path, output: Path | None = None) -> tuple[str, str] | None:
    found = _model_file(path)
    if found is None:
        return _with_attention(path, output)
    file, scale = found
    if output and output.exists() and output.samefile(file):
        raise UserError(f"-o {output}: it is the file that is read, which stays as it is; choose another name")
    try:
        return read_plain(file, LARGEST_MODEL).decode(), scale
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as UTF-8 text: {one_line(error)}") from error


def _model_file(path: Path) -> tuple[Path, str] | None:
    """The path and scale that a name means: one that is there, one of ours, or one that Ultralytics comes with."""
    if path.exists():
        return path, tasks.guess_model_scale(path)
    found = find_model_yaml(path)
    if found or path.name != str(path) or path.suffix not in SUFFIXES:
        return found
    scaled = SCALED_NAME.match(path.stem)
    names = [path.name, *([f"{scaled[1]}{scaled[3]}{path.suffix}"] if scaled else [])]
    files = (Path(check_yaml(name, hard=False) or "") for name in names)
    return next(((file, tasks.guess_model_scale(path)) for file in files if file.is_file()), None)


def _with_attention(path: Path, output: Path | None = None) -> tuple[str, str] | None:
    """Text and scale of a base with attention put in, where a name means that."""
    *parts, place = path.stem.split("-")
    if place not in PLACES:
        parts, place = [*parts, place], PLACES[0]
    layer = layer_named(parts.pop()) if parts else None
    if layer is None or not parts:
        return None
    base = path.with_name("-".join(parts) + path.suffix)
    found = _read(base, output)
    if found is None:
        return None
    text, scale = found
    file = (_model_file(base) or [base])[0]
    try:
        return put(text, str(file), layer, place, scale=scale)[0].text, scale
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _near(path: Path) -> str:
    """Names that a name may stand for: its parts in their order, else another spelling of one, else a packaged one."""
    return did_you_mean(
        _in_lower_case(path) or _rescaled(path) or _in_order(path) or _respelt(path) or _packaged_like(path)
    )


def _in_lower_case(path: Path) -> list[str]:
    lower = path.with_name(path.name.lower())
    return [str(lower)] if lower != path and _read(lower) else []


def _rescaled(path: Path) -> list[str]:
    """Names with the scales that there are in place of a letter that is none."""
    found = UNSCALED_NAME.match(path.stem)
    names = [path.with_name(f"{found[1]}{scale}{found[2] or ''}{path.suffix}") for scale in "nsmlx"] if found else []
    return [str(name) for name in names if _read(name)][:3]


def _words(path: Path) -> list[str]:
    return [word for word in re.split("[-_:]", path.stem) if word]


def _in_order(path: Path) -> list[str]:
    """Names of one layer that a name has the parts of."""
    words = _words(path)
    layers = [word for word in words if layer_named(word)]
    meant = [PLACE_WORDS.get(word.lower(), word) for word in words]
    places = [word for word in dict.fromkeys(meant) if word in PLACES]
    base = "-".join(
        word for word, place in zip(words, meant, strict=True) if word not in layers and place not in PLACES
    )
    # Ultralytics has a v up to yolov10 alone
    base = re.sub(r"^yolov(?=1[1-9]|26)", "yolo", re.sub(r"^yolo(?=[3-9](?!\d)|10)", "yolov", base))
    if len(layers) != 1:
        return []
    ends = [f"-{place}" for place in places if place != PLACES[0]] or [""]
    names = [str(path.with_name(f"{base}-{layers[0].lower()}{end}.yaml")) for end in ends]
    return [name for name in names if name != str(path) and _read(Path(name))]


def _packaged_like(path: Path) -> list[str]:
    """The packaged name that is nearly a name."""
    packaged = [file.name for file in MODEL_YAMLS.glob("*.yaml")]
    return [str(path.with_name(name)) for name in get_close_matches(path.name.lower(), packaged, n=1, cutoff=0.9)]


def _respelt(path: Path) -> list[str]:
    known = [*PLACES, *SHORT, *(name.lower() for name in LAYERS if name not in SHORT.values())]
    parts = path.stem.split("-")
    found = []
    for i in range(1, len(parts)):
        for other in similar(parts[i], known):
            name = path.with_name("-".join([*parts[:i], other, *parts[i + 1 :]]) + path.suffix)
            if other != parts[i] and _read(name):
                found.append(str(name))
    return found
