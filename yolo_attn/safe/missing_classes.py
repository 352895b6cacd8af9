"""Checkpoints of other projects: what a class that is not here says of where a checkpoint comes from."""

import re

REPOSITORIES = ("models", "utils")
"""Packages that checkpoints of the YOLOv5 and YOLOv7 repositories name their classes in."""

MISSING = re.compile(r"Can't get attribute '([\w.]+)' on <module '([\w.]+)'")
"""What Python says of a class that is not in its module."""

STATE_DICT = "torch.save(model.state_dict(), 'weights.pt')"


def origin_of(name: str) -> str | None:
    """Where a checkpoint comes from that names a class which is not here, such as models.yolo.Model, and what leads on.

    None where the class may be the user's own.
    """
    package = name.partition(".")[0]
    if package in REPOSITORIES:
        return (
            f"a checkpoint of the YOLOv5 or YOLOv7 repository ({name}), which Ultralytics' package cannot load; train "
            "its model anew here: yolo-attn migrate translates the YAML"
        )
    if package == "ultralytics":
        return (
            f"a checkpoint of a changed copy of Ultralytics, or of another release: {name} is not in this one; where "
            f"that copy is installed, save its weights alone, {STATE_DICT}, and start from those; yolo-attn migrate "
            "translates its model YAML"
        )
    return None


def missing_class(error: BaseException | None) -> str | None:
    """The class or module that reading a checkpoint did not find, as `origin_of` takes it; None if it was not that."""
    met: list[BaseException] = []
    while error is not None and error not in met:  # one may be its own cause
        met.append(error)
        found = MISSING.search(str(error))
        if found:
            return f"{found[2]}.{found[1]}"
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name
        error = error.__cause__ or error.__context__
    return None
