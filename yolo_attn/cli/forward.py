"""Hand arguments in Ultralytics' grammar to Ultralytics' own command line."""

import logging
from pathlib import Path
from traceback import walk_tb

from yolo_attn.bounded_reading import read_yaml
from yolo_attn.coco.dataset.paths import is_there
from yolo_attn.environment import filtered
from yolo_attn.errors import UserError
from yolo_attn.files import FULL, check_plain_file

FILES = ("model", "cfg", "data", "pretrained", "resume")
"""Ultralytics' settings that name files."""


def forward(arguments: list[str]) -> None:
    """Run what `yolo` would run; any error before a training's first epoch becomes a UserError."""
    _check_files(arguments)
    arguments = _with_last(arguments)
    from ultralytics import cfg
    from ultralytics.utils import ARGV, LOGGER

    from yolo_attn.engine.preflight.checks import one_line

    asked = bool({"help", "-h", "--help"} & set(arguments))

    def keeps(record: logging.LogRecord) -> bool:
        return asked or record.msg != cfg.CLI_HELP_MSG  # which would hide the one line that says what is wrong

    before = ARGV[:]
    ARGV[:] = ["yolo", *arguments]  # the list that was sys.argv when Ultralytics was imported
    try:
        with filtered(LOGGER, keeps):
            cfg.entrypoint()
    except UserError:
        raise
    except Exception as error:  # Ultralytics raises any type for a wrong argument, file or setting
        if _was_training(error) or (isinstance(error, OSError) and error.errno in FULL):
            raise
        _check_names(error, arguments)
        raise UserError(one_line(error)) from error
    finally:
        ARGV[:] = before


def _check_files(arguments: list[str]) -> None:
    """Raise if an argument names something that is not a plain file, or an endless YAML of settings."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in FILES and is_there(Path(value)) and not Path(value).is_dir():
            check_plain_file(value, argument)
            if key == "cfg":
                read_yaml(value)


def _check_names(error: Exception, arguments: list[str]) -> None:
    """Raise in our words if Ultralytics refused a setting for its name."""
    from yolo_attn.engine.preflight.checks import check_settings

    if "is not a valid YOLO argument" in str(error):
        check_settings(dict(each.partition("=")[::2] for each in arguments if "=" in each))


def _with_last(arguments: list[str]) -> list[str]:
    """The arguments, with the last.pt as `model` where a training is to go on and none is named."""
    settings = dict(argument.partition("=")[::2] for argument in arguments)
    wanted = settings.get("resume", "true" if "resume" in settings else "false")
    if "train" not in settings or "model" in settings or wanted.lower() in {"false", "none", "0"}:
        return arguments
    from yolo_attn.engine.run_folder import find_last

    named = bool(wanted) and wanted.lower() not in {"true", "1"}
    last = find_last(wanted if named else True, settings.get("project"))
    return [*(each for each in arguments if each.partition("=")[0] != "resume"), f"model={last}", "resume=True"]


def _was_training(error: Exception) -> bool:
    """Return whether a training had started its epochs when the error was raised."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return any(f.f_code.co_name == "_do_train" and hasattr(f.f_locals.get("self"), "epoch") for f in frames)
