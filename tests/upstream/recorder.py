"""A pytest plug-in for Ultralytics' own tests: writes each one's outcome, a line of JSON each, into $OUTCOMES."""

import json
import os

_worst = {}


def _write(record):
    with open(os.environ["OUTCOMES"], "a") as file:  # noqa: PTH123  loaded beside Ultralytics' tests
        file.write(json.dumps(record) + "\n")


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
