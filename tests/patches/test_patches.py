"""What is wrapped in Ultralytics: all or nothing, once, and undone as a whole."""

import ast
import re
import shutil
from pathlib import Path

import pytest
import torch
import ultralytics.data.utils
import ultralytics.engine.exporter
import ultralytics.engine.model
from support import ROOT, run_python
from torch import nn
from ultralytics.nn import tasks

import yolo_attn
from yolo_attn.cli import main
from yolo_attn.layers import GAM
from yolo_attn.model import parser
from yolo_attn.patches import table as patches

INSTALLED = Path(ultralytics.__file__).parent

STATE = """
import sys, torch, types

def state():
    "Every function of Ultralytics', the FLOPs counter's hooks and the classes that load safely."
    from thop.profile import register_hooks
    modules = {k: m for k, m in sys.modules.items() if k.split(".")[0] in ("ultralytics", "cv2")}
    found = {(k, n): v for k, m in modules.items() for n, v in vars(m).items() if callable(v)}
    for (k, n), kind in [item for item in found.items() if isinstance(item[1], type)]:
        found |= {(k, n, a): v for a, v in vars(kind).items() if isinstance(v, types.FunctionType)}
    finders = [str(type(f)) for f in sys.meta_path]
    return found, dict(register_hooks), set(torch.serialization.get_safe_globals()), finders

def depths():
    "How often each function of Ultralytics' is wrapped by us."
    def depth(f):
        own = getattr(f, "__code__", None) and f.__code__.co_filename.endswith("wrapping.py")
        return bool(own) + (depth(f.__wrapped__) if hasattr(f, "__wrapped__") else 0)
    return {key: depth(f) for key, f in state()[0].items() if depth(f)}

def build():
    from ultralytics import YOLO
    return type(YOLO("yolov8n-gam.yaml").model.model[-1]).__name__
"""


def state():
    """As in `STATE`, of this process."""
    space = {}
    exec(STATE, space)
    return space["state"]()


@pytest.fixture
def unregistered():
    yolo_attn.unregister()
    yield
    yolo_attn.register()


@pytest.fixture
def remove(monkeypatch, unregistered):
    """Removes a function that is to be wrapped from Ultralytics, until the test ends."""

    def removed(patch):
        owner, name = patch.find()
        monkeypatch.delattr(owner, name)

    yield removed
    monkeypatch.undo()


def test_every_function_is_in_this_release():
    assert patches.missing() == []
    names = [(patch.owner, patch.name) for patch in patches.PATCHES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("patch", patches.PATCHES, ids=lambda patch: patch.described)
def test_a_missing_function_is_skipped_or_leaves_ultralytics_as_it_was(patch, remove, caplog, monkeypatch):
    monkeypatch.setattr(yolo_attn, "_warned", set())
    remove(patch)
    before = state()
    yolo_attn.register()
    yolo_attn.register()
    warnings = caplog.text
    assert patches.missing() == [patch]
    if patch.required:
        assert state()[:3] == before[:3]
        assert warnings.count(f"Ultralytics {ultralytics.__version__} stays without attention layers") == 1
        assert patch.described in warnings
    else:
        assert warnings == ""
        assert all(hasattr(vars(p.find()[0])[p.find()[1]], "__wrapped__") for p in patches.PATCHES if p is not patch)


def renamed(folder, file, old, new):
    """A copy of Ultralytics in which a name is another one everywhere; returns the folder to import it from."""
    shutil.copytree(INSTALLED, folder / "ultralytics")  # what is compiled stays valid
    for source in (folder / "ultralytics").rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        if old in text:
            source.write_text(re.sub(rf"\b{old}\b", new, text), encoding="utf-8")
    assert new in (folder / "ultralytics" / file).read_text(encoding="utf-8")
    return str(folder)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("file", "old", "reported"),
    [
        ("nn/tasks.py", "parse_model", "it has no nn.tasks.parse_model; supported: 8.3.0 to 8.4"),
        ("utils/checks.py", "check_yaml", "cannot import name 'check_yaml'"),  # which is not wrapped, but used
        ("utils/dist.py", "generate_ddp_file", None),
    ],
)
def test_an_ultralytics_of_other_names_imports_and_works(tmp_path, file, old, reported):
    path = renamed(tmp_path, file, old, f"other_{old}")
    code = (
        "import yolo_attn, ultralytics; from ultralytics import YOLO; YOLO('yolov8n.yaml'); yolo_attn.register(); "
        f"assert ultralytics.__file__.startswith({path!r}); {STATE}print('wrapped', len(depths()))"
    )
    result = run_python(code.replace("; \nimport", "\nimport"), tmp_path, PYTHONPATH=path)
    warned = [line for line in result.stdout.splitlines() if "stays without attention layers" in line]
    assert len(warned) == (reported is not None)
    assert (reported or "") in "".join(warned)
    assert (result.stdout.splitlines()[-1] == "wrapped 0") == (reported is not None)


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ("nn.tasks.parse_model", "without it no rows that name attention layers (Ultralytics stays without attention"),
        ("utils.dist.generate_ddp_file", "without it no attention layers in multi-GPU workers (skipped)"),
    ],
)
def test_doctor_reports_what_is_missing(patch, found, remove, capsys):
    remove(next(each for each in patches.PATCHES if each.described == patch))
    yolo_attn.register()
    assert main(["doctor"]) == 1
    line, advice = capsys.readouterr().out.partition("! patches ")[2].splitlines()[:2]
    assert f"Ultralytics has no {patch}: {found}" in line
    assert "-> supported is Ultralytics 8.3.0 to 8.4" in advice


@pytest.mark.smoke
def test_everything_is_restored_and_nothing_stacks(tmp_path):
    code = f"""{STATE}
import threading, ultralytics.engine.model, ultralytics.models
import thop
before = state()
import yolo_attn
first = state()
assert first != before and set(depths().values()) == {{1}} and build() == "Detect"

def concurrently(*calls):
    threads = [threading.Thread(target=call) for call in calls * 4]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

concurrently(yolo_attn.register, yolo_attn.register)
yolo_attn.register()
assert state() == first
yolo_attn.unregister()
assert state() == before
concurrently(yolo_attn.register, yolo_attn.unregister)
yolo_attn.unregister()
assert state() == before
yolo_attn.unregister(), yolo_attn.register(), yolo_attn.register()
assert len(state()[0]) == len(first[0]) and state()[1:] == first[1:] and set(depths().values()) == {{1}}
assert depths().keys() == {{k for k, v in first[0].items() if v is not before[0].get(k)}}
"""
    run_python(code, tmp_path)


@pytest.mark.integration
def test_reloads_are_survived(tmp_path):
    code = f"""{STATE}
from importlib import reload
import yolo_attn, yolo_attn.patches.table, ultralytics.nn.tasks as tasks
from ultralytics import YOLO

def whole():
    assert set(depths().values()) == {{1}}, depths()
    assert [str(type(f)) for f in sys.meta_path].count("<class 'yolo_attn._RegisterAfter'>") == 1
    assert build() == "Detect"
    model = tasks.DetectionModel("yolov8n-gam.yaml", verbose=False)
    model.load(tasks.DetectionModel("yolov8n.yaml", verbose=False), verbose=False)
    from yolo_attn.weights.transfer import transfer_of
    assert transfer_of(model).is_whole
    return set(depths())

wrapped = whole()
reload(tasks)
yolo_attn.register()
assert whole() == wrapped
reload(yolo_attn)
yolo_attn.register()
assert whole() == wrapped
reload(yolo_attn.patches.table), reload(tasks), reload(yolo_attn)
yolo_attn.register()
assert whole() == wrapped
yolo_attn.unregister()
assert not depths() and not [f for f in sys.meta_path if "yolo_attn" in str(type(f))]
reload(tasks)
assert not depths()
yolo_attn.register()
assert whole() == wrapped
"""
    run_python(code, tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize("first", ["unregister", "register"])
def test_another_wrapper_around_ours_stays_and_ours_is_not_put_around_it(monkeypatch, first):
    reads = []
    monkeypatch.setattr(parser, "read_rows", lambda *a, read=parser.read_rows: reads.append(1) or read(*a))
    getattr(yolo_attn, first)()
    inner = tasks.parse_model

    def theirs(*args, **kwargs):
        return inner(*args, **kwargs)

    tasks.parse_model = theirs
    try:
        for _ in range(2):
            yolo_attn.register()
            reads.clear()
            assert isinstance(tasks.DetectionModel("yolov8n-gam.yaml", verbose=False).model[22], GAM)
            assert len(reads) == 1
            yolo_attn.unregister()
            assert tasks.parse_model is theirs
            with pytest.raises(KeyError, match="GAM"):
                tasks.DetectionModel(tasks.yaml_model_load(patches_yaml()), verbose=False)
    finally:
        tasks.parse_model = inner
        yolo_attn.register()
    assert isinstance(tasks.DetectionModel("yolov8n-gam.yaml", verbose=False).model[22], GAM)


def patches_yaml():
    return Path(parser.__file__).parents[2] / "model_yamls/yolov8-gam.yaml"


def test_what_the_user_allowed_or_hooked_himself_stays(unregistered):
    from thop.profile import register_hooks

    def count(*_):
        pass

    torch.serialization.add_safe_globals([GAM])
    register_hooks[GAM] = count
    try:
        yolo_attn.register()
        yolo_attn.unregister()
        assert GAM in torch.serialization.get_safe_globals()
        assert register_hooks[GAM] is count
    finally:
        del register_hooks[GAM]
        patches._disallow([GAM])


def test_layers_that_register_late_are_restored_too(unregistered):
    from thop.profile import register_hooks

    from yolo_attn.model.registry import LAYERS

    before = state()
    yolo_attn.register()

    class Late(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def flops(self, x):
            return 0

    with pytest.warns(UserWarning, match="this process only"):
        yolo_attn.register_layer(Late)
    try:
        assert Late in register_hooks
        assert Late in torch.serialization.get_safe_globals()
        yolo_attn.unregister()
        assert state() == before
    finally:
        del LAYERS["Late"]


@pytest.mark.integration
def test_a_class_of_anothers_under_a_name_of_ours_is_reported(tmp_path):
    code = """
import logging, sys
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER
import torch

class GAM(torch.nn.Identity):
    pass

tasks.GAM = GAM
LOGGER.handlers = [logging.StreamHandler(sys.stdout)]
import yolo_attn
yolo_attn.register()
d = tasks.yaml_model_load("yolov8n-gam.yaml")
assert type(tasks.DetectionModel(d, verbose=False).model[22]).__module__ == "yolo_attn.layers.gam"
"""
    result = run_python(code, tmp_path)
    assert result.stdout.count("yolo_attn: rows named GAM are its own layer, not __main__.GAM") == 1


@pytest.mark.integration
def test_nothing_is_imported_under_the_lock(tmp_path):
    """A thread that imports may need the lock that registering holds."""
    code = """
import builtins, importlib, sys, threading

class Lock:
    entered = held = 0
    def __enter__(self): self.entered += 1; self.held += 1
    def __exit__(self, *_): self.held -= 1

def made():
    return lock if sys._getframe(1).f_globals["__name__"] == "yolo_attn.patches.wrapping" else of_python()

lock, under, of_python = Lock(), [], threading.RLock
threading.RLock = made
plain, module = builtins.__import__, importlib.import_module

def note(name):
    if lock.held and name not in sys.modules:
        under.append(name)

def watched(name, *args, **kwargs):
    note(name)
    return plain(name, *args, **kwargs)

def watched_module(name, *args):
    note(name)
    return module(name, *args)

builtins.__import__, importlib.import_module = watched, watched_module
import yolo_attn
import ultralytics.nn.tasks
assert lock.entered, "the lock was not taken"
assert not under, under
assert "thop.profile" in sys.modules
"""
    run_python(code, tmp_path)


@pytest.mark.integration
def test_models_are_built_in_several_threads(tmp_path):
    """PyTorch's lists of hooks are every thread's, so none changes them while another one builds."""
    code = """
import sys, threading
import torch, yolo_attn
from ultralytics.nn import tasks

sys.setswitchinterval(1e-5)
wrong = []

def build():
    for name in ("yolov8n.yaml", "yolov8n-gam.yaml") * 6:
        try:
            with torch.device("meta"):
                tasks.parse_model(tasks.yaml_model_load(name), 3, verbose=False)
        except Exception as error:
            wrong.append(repr(error))

threads = [threading.Thread(target=build) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not wrong, wrong
"""
    run_python(code, tmp_path)


@pytest.mark.integration
def test_methods_of_the_engine_are_wrapped_once_it_is_imported(tmp_path):
    code = f"""{STATE}
import yolo_attn
yolo_attn.register()
assert "ultralytics.engine.model" not in sys.modules
from ultralytics.engine import exporter, model
assert hasattr(vars(exporter.Exporter)["__call__"], "__wrapped__")
assert [hasattr(vars(model.Model)[name], "__wrapped__") for name in ("train", "val", "tune")] == [True] * 3
"""
    run_python(code, tmp_path)


def temporary_changes():
    """What modules give to `replaced` and `filtered`, and what of others' they set without these."""
    for file in (ROOT / "yolo_attn").rglob("*.py"):
        module = file.relative_to(ROOT / "yolo_attn").with_suffix("").as_posix().replace("/", ".")
        tree = ast.parse(file.read_text())
        foreign = {alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        for node in ast.walk(tree):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called == "replaced" and ast.unparse(node.args[0]) != "self":
                owner = ast.unparse(node.args[0]).rpartition(".")[2]
                yield from (f"{owner}.{keyword.arg or '*'} in {module}" for keyword in node.keywords)
            elif called == "filtered":
                yield f"{ast.unparse(node.args[0])}.filter in {module}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".addFilter"):
                yield f"addFilter in {module}"
            elif isinstance(node, ast.Assign):
                targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
                yield from (f"{ast.unparse(t)} in {module}" for t in targets if ast.unparse(t.value) in foreign)


def test_modules_that_are_imported_late_are_listened_for():
    assert set(yolo_attn._MODULES) == {patches.TASKS, *patches.LATE}


def test_the_table_lists_every_temporary_change():
    own = "addFilter in environment"
    found = sorted(set(temporary_changes()) - {own})
    assert found == sorted(f"{change.owner} in {change.by}" for change in patches.TEMPORARY)
