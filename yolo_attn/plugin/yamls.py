"""Where the packaged model YAMLs are, and which file a model name means."""

import re
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
MODEL_YAMLS = next((f for f in (PACKAGE / "model_yamls", PACKAGE.parent / "model_yamls") if f.is_dir()), PACKAGE)
SCALED_NAME = re.compile(r"^(yolo(?:e-)?v?\d+)([nslmx])(.*)$")


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
    """Load a model YAML by Ultralytics' own loader, packaged names included.

    Args:
        load: Ultralytics' own `yaml_model_load`.
        path: File or name, with or without a scale letter.

    Returns:
        The model dictionary with `scale` and, as given, `yaml_file`.
    """
    found = find_model_yaml(path)
    if found is None:
        return load(path)
    file, scale = found
    return {**load(file), "scale": scale, "yaml_file": str(path)}
