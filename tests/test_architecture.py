"""Imports point one way, and the import of the package costs nothing that Ultralytics does not cost itself."""

import ast

import pytest
from support import ROOT, run_python

MAY_IMPORT = {
    "kernels": {"kernels"},
    "layers": {"layers", "kernels"},
    "editing": {"editing", "errors", "reading"},
    "plugin": {"plugin", "safe", "editing", "layers", "compat", "errors", "files", "reading", "telemetry"},
    "safe": {"safe", "plugin", "errors", "reading"},
    "coco": {"coco", "errors", "files", "tables", "reading"},
    "engine": {"compat", "engine", "plugin", "coco", "editing", "layers", "environment", "errors", "files", "reading"},
    "compare": {"compare", "engine", "plugin", "coco", "errors", "files", "reading"},
    "maps": {"maps", "engine", "plugin", "layers", "errors", "files", "tables", "reading"},
    "cli": {
        *("cli", "compare", "maps", "engine", "plugin", "coco", "editing", "kernels"),
        *("environment", "errors", "files", "reading"),
    },
}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part):
    place = ROOT / "yolo_attn" / part
    files = list(place.glob("*.py"))
    assert files
    for file in files:
        names = list(imports(file))
        own = {name.split(".")[1] for name in names if name.startswith("yolo_attn.")}
        assert own <= MAY_IMPORT[part], file
        if part in ("kernels", "layers", "editing"):
            assert not any(name.startswith("ultralytics") for name in names), file
        if part == "editing":
            assert not any(name.startswith("torch") for name in names), file


def test_scripts_only_call_the_command_line():
    """Studies and benchmarks apart, which measure for the documentation."""
    for file in (ROOT / "scripts").glob("*.py"):
        if file.name.startswith(("measure_", "bench_")):
            continue
        assert set(imports(file)) == {"sys", "yolo_attn.cli"}, file


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
