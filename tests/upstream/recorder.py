"""A pytest plug-in for Ultralytics' own tests: writes each one's outcome, a line of JSON each, into $OUTCOMES.

The `yolo` commands of these tests run in processes forked from one that has imported everything. Figures are drawn up
and not rendered, which would take two thirds of a training's time.
"""

import json
import multiprocessing
import os
import subprocess
import sys

from matplotlib.figure import Figure
from PIL import Image

_worst = {}
_run = subprocess.run
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["recorder", "ultralytics.models", "ultralytics.cfg", "torch._inductor"])


def _save_blank(self, file, **how):
    Image.new("RGB", (8, 8)).save(file)


Figure.savefig = _save_blank


def _write(record):
    with open(os.environ["OUTCOMES"], "a") as file:  # noqa: PTH123  loaded beside Ultralytics' tests
        file.write(json.dumps(record) + "\n")


def _forked_run(command, *args, **kwargs):
    if command[0] != "yolo" or args or kwargs != {"check": True}:
        return _run(command, *args, **kwargs)
    process = _context.Process(target=_yolo, args=(command,))
    process.start()
    process.join()
    if process.exitcode:
        raise subprocess.CalledProcessError(process.exitcode, command)
    return subprocess.CompletedProcess(command, 0)


def _yolo(command):
    from ultralytics.cfg import entrypoint

    sys.argv = command
    entrypoint(" ".join(command))  # it would take the arguments that this process began with


def pytest_configure():
    subprocess.run = _forked_run


def pytest_collection_finish(session):
    from ultralytics import __version__
    from ultralytics.nn import tasks

    _write({"version": __version__, "registered": hasattr(tasks.parse_model, "__wrapped__")})


def pytest_runtest_logreport(report):
    if report.outcome != "passed" or report.when == "call":
        _worst.setdefault(report.nodeid, report.outcome)
    if report.outcome == "failed":
        _worst[report.nodeid] = "failed"
    if report.when == "teardown":
        _write({"test": report.nodeid, "outcome": _worst[report.nodeid]})
