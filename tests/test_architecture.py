"""Imports point one way, and the import of the package costs nothing that Ultralytics does not cost itself."""

import ast
import functools
import importlib
import inspect
from graphlib import TopologicalSorter

import pytest
from support import ROOT, run_python

PACKAGE = ROOT / "yolo_attn"

FLOORS = (
    {"version", "errors", "tables", "telemetry", "environment", "compat", "extras", "lazy"},
    {"files"},
    {"bounded_reading"},
    {"kernels"},
    {"layers", "yaml_edit", "coco.reading"},
    {"networks", "coco.dataset"},
    {"model"},
    {"coco", "gates"},
    {"safe"},
    {"weights"},
    {"engine"},
    {"maps", "compare", "show", "patches"},
    {""},  # the package's own face, which imports when it is asked
    {"cli"},
)
"""Rooms, the lowest first: each imports what stands on lower floors, and of its own floor itself alone."""

STRANGERS = (
    {"layers", "kernels", "networks", "model", "gates", "safe", "weights"},
    {"coco", "coco.reading", "coco.dataset"},
)
"""Two sides that know nothing of each other."""

WITHOUT = {"kernels": {"ultralytics"}, "layers": {"ultralytics"}, "yaml_edit": {"ultralytics", "torch"}}
"""What rooms do without."""


def name_of(file):
    """A file's module, without the package's name."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in PACKAGE.rglob("*.py")}
NAMED = {f"yolo_attn.{module}" for module in MODULES if module}


def room_of(module):
    """The room that a module stands in: a folder, or a file beside the folders."""
    first, _, rest = module.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if first == "coco" and (PACKAGE / first / second).is_dir() and second else first


@functools.cache
def imports(file):
    """Modules that a file imports, by whichever statement, or names in a string."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full.removeprefix("yolo_attn.") in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in NAMED:
            found.add(node.value)
    return found


def own(file):
    """Modules of the package that a file imports, without the package's name; "" is the package itself."""
    found = {name for name in imports(file) if name.partition(".")[0] == "yolo_attn"}
    return {name.removeprefix("yolo_attn").removeprefix(".") for name in found}


def floor(room):
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor():
    rooms = {room_of(module) for module in MODULES} - {"__main__", "plugin"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS) - {""}))
def test_imports_point_one_way(room):
    for module, file in MODULES.items():
        if room_of(module) == room:
            for other in map(room_of, own(file)):
                assert other == room or floor(other) < floor(room), (module, other)
            outside = {name.partition(".")[0] for name in imports(file)}
            assert not outside & WITHOUT.get(room, set()), module


def test_layers_and_data_know_nothing_of_each_other():
    one, other = STRANGERS
    for module, file in MODULES.items():
        for side, forbidden in ((one, other), (other, one)):
            if room_of(module) in side:
                assert not {room_of(name) for name in own(file)} & forbidden, module


def test_no_module_imports_itself_through_others():
    graph = {module: own(file) - {module} for module, file in MODULES.items() if module}
    TopologicalSorter(graph).prepare()


ROOMS = sorted({".".join(file.parent.relative_to(ROOT).parts) for file in MODULES.values()})


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_lives_there_and_names_what_others_use(room):
    package = importlib.import_module(room)
    assert package.__doc__
    assert package.__all__
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert [name for name in package.__all__ if inspect.ismodule(getattr(package, name))] == []


def test_scripts_only_call_the_command_line():
    for file in (ROOT / "scripts").glob("*.py"):
        assert set(imports(file)) == {"sys", "yolo_attn.cli"}, file


@pytest.mark.integration
def test_registering_adds_little_to_ultralytics_own_import(tmp_path):
    """Seconds of our modules after Ultralytics' parser is there, as a share of its own import, in one process."""
    code = """
import time
t0 = time.perf_counter()
import ultralytics.nn.tasks
t1 = time.perf_counter()
import yolo_attn
t2 = time.perf_counter()
print((t2 - t1) / (t1 - t0))
"""
    shares = sorted(float(run_python(code, tmp_path).stdout.split()[-1]) for _ in range(3))
    assert shares[0] < 0.1, shares
