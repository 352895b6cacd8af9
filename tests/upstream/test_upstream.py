"""What Ultralytics' own tests say holds with this package registered, too."""

import json
import warnings

import pytest
from support import OLDEST
from ultralytics import __version__
from ultralytics_tests import FILES, committed, prepared


def passing(outcomes):
    return [test for test, outcome in outcomes.items() if outcome == "passed"]


def broken(found, tests):
    """Of tests that pass without this package, those that do not with it; a second look at them decides."""
    with_it = found.outcomes(tests, registered=True)
    suspects = [test for test in tests if with_it.get(test) != "passed"]
    if suspects:  # as after a stop of a whole process, or in another environment than the outcomes' own
        suspects = passing(found.outcomes(suspects, registered=False))
    if suspects:
        with_it = found.outcomes(suspects, registered=True)
    return {test: with_it.get(test) for test in suspects if with_it.get(test) != "passed"}


@pytest.mark.integration
@pytest.mark.parametrize("file", FILES)
def test_what_passes_on_the_installed_release_passes_with_the_layers_registered(file):
    found = prepared(__version__)
    if committed(__version__).exists():
        outcomes = json.loads(committed(__version__).read_text())
    else:
        outcomes = found.outcomes([file], registered=False)
        warnings.warn(
            f"Ultralytics {__version__} has no committed outcomes, so they were computed; "
            "python tests/upstream/ultralytics_tests.py writes them",
            stacklevel=1,
        )
    tests = [test for test in passing(outcomes) if test.startswith(f"{file}::")]
    assert tests
    assert broken(found, tests) == {}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("oldest_release", [False, True], ids=["installed", "oldest"])
def test_outcomes_are_the_same_with_and_without(file, oldest_release, oldest):
    found = prepared(OLDEST, oldest) if oldest_release else prepared(__version__)
    without = found.outcomes([file], registered=False)
    assert passing(without)
    assert broken(found, passing(without)) == {}
