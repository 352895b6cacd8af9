"""The tiers of the tests: a test that starts a process or a training says so, and nobody waits for it unasked.

- `make test`: tests without a mark, and those marked `smoke`, a few whole runs of what users do first.
- `make test-integration`: those marked `integration`, the models of every family among them.
- `make test-all`: those marked `slow`, too.

With YOLO_ATTN_TEST_LOG=FILE, a line of JSON for each test says what it started and how long it took.
"""

import functools
import json
import multiprocessing.process
import os
import subprocess
import time

import pytest
from ultralytics.engine.trainer import BaseTrainer
from xdist.scheduler import LoadScopeScheduling

MARKS = ("smoke", "integration", "slow")

SHARED = ("tests/compare/", "tests/engine/")
"""Whose tests share a whole comparison, and a trained run."""

WHOLE = {"trained", "whole", "torchrun", "oldest", "on_oldest"}
"""Fixtures that train, or start processes; who asks for one is of the second tier."""

MOST_SMOKE = 25
"""How many tests may be marked `smoke`."""

LONGEST = ("upstream/", "tools/", "test_docs.py", "compare/")
"""Where tests stand that take longest: they begin, so that no process ends long after the others."""

started: list[str] = []
"""What the running test has started."""


def _noted(function, what):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        started.append(what)
        return function(*args, **kwargs)

    return wrapper


def pytest_configure():
    subprocess.Popen.__init__ = _noted(subprocess.Popen.__init__, "a process")
    multiprocessing.process.BaseProcess.start = _noted(multiprocessing.process.BaseProcess.start, "a process")
    BaseTrainer.train = _noted(BaseTrainer.train, "a training")


class ByModule(LoadScopeScheduling):
    """One process runs all tests of a module, and of a room whose tests share what takes long to make."""

    def _split_scope(self, nodeid):
        module = nodeid.partition("::")[0]
        return next((room for room in SHARED if module.startswith(room)), module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByModule(config, log)


def pytest_collection_modifyitems(items):
    for item in items:
        if WHOLE & set(item.fixturenames) and not marks(item):
            item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(LONGEST))
    smoke = sum(marks(item) == ["smoke"] for item in items)
    if smoke > MOST_SMOKE:
        raise pytest.UsageError(f"{smoke} tests are marked smoke, expected at most {MOST_SMOKE}")


def later(cases, besides=()):
    """Parameters of which only those besides are of the first tier: together they would take too long for it."""
    return [case if _first(case) in besides else _marked(case) for case in cases]


def _first(case):
    return case[0] if isinstance(case, tuple) else case


def _marked(case):
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.integration)


def marks(item):
    return [name for name in MARKS if item.get_closest_marker(name)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    if started and not marks(item):
        pytest.fail(f"it starts {' and '.join(sorted(set(started)))}: mark it integration, or smoke", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    started.clear()
    began = time.perf_counter()
    result = yield
    if "YOLO_ATTN_TEST_LOG" in os.environ:
        line = {"test": item.nodeid, "started": sorted(set(started)), "marks": marks(item)}
        with open(os.environ["YOLO_ATTN_TEST_LOG"], "a") as log:  # noqa: PTH123  # of whichever worker, a line at a time
            log.write(json.dumps({**line, "seconds": round(time.perf_counter() - began, 2)}) + "\n")
    return result
