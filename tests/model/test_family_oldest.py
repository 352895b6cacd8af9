"""The matrix of test_family_matrix.py on the oldest supported Ultralytics, with the newest one's YAMLs."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml
from families import FOLDER, FOLDER_VARIABLE, OPTIONS, YAMLS, builds, load, scales, since
from support import OLDEST, ROOT
from test_family_matrix import FEW, LARGE, LAYERS, MORE, VARIANTS

OLD = [name for name in YAMLS if since(name) == OLDEST]


def ids(test, cases):
    return {f"{test}[{'-'.join(case)}]" for case in cases if case[0] in OLD}


QUICK = {
    "test_table_says_what_ultralytics_builds",
    *ids("test_scales", FEW),
    *ids("test_models_learn", [(name,) for name in OLD if name not in LARGE]),
    *ids("test_layer_that_needs_options_says_so", OPTIONS),
}
SLOW = {
    *ids("test_scales", MORE),
    *ids("test_models_learn", [(name,) for name in LARGE]),
    *ids("test_every_layer", [(name, put.__name__, layer) for name, put in VARIANTS for layer in LAYERS]),
}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("marked", "expected"),
    [pytest.param("not slow", QUICK, id="quick"), pytest.param("slow", SLOW, id="slow", marks=pytest.mark.slow)],
)
def test_matrix_passes_on_the_oldest(oldest, marked, expected, tmp_path):
    report = tmp_path / "report.xml"
    matrix = ROOT / "tests/model/test_family_matrix.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", matrix, "-m", marked, f"--junitxml={report}"]
    paths = {"PYTHONPATH": f"{oldest}{os.pathsep}{ROOT}", FOLDER_VARIABLE: str(FOLDER)}
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **paths}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert {case.get("name") for case in suite.iter("testcase")} == expected
    outcomes = [int(suite.get(outcome)) for outcome in ("tests", "failures", "errors", "skipped")]
    assert outcomes == [len(expected), 0, 0, 0]
    if marked != "slow":
        reported = {p.get("name"): p.get("value") for p in suite.iter("property")}
        assert reported == {"ultralytics": OLDEST, "refused": " ".join(name for name in YAMLS if name not in OLD)}


def test_newest_builds_everything():
    assert [name for name in YAMLS if not builds(name)] == []


@pytest.mark.integration
def test_yamls_of_the_oldest_are_those_of_the_newest(oldest):
    """Row for row, so that the newest one's stand for its own."""
    own = {file.stem: file for file in (oldest / "ultralytics/cfg/models").rglob("*.yaml")}
    assert own.keys() <= set(OLD)
    for name, file in own.items():
        theirs, model = yaml.safe_load(file.read_text()), load(name, scales(name)[0])
        assert [theirs["backbone"], theirs["head"]] == [model["backbone"], model["head"]], name
