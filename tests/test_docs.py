"""Commands in README.md, CONTRIBUTING.md and docs/: each is understood as it stands, and all but the declared ones run.

Commands are those in fenced blocks, whatever their language, and those with arguments inside the text. They run in the
order of their page, in a folder that has what the pages name, smaller as `SMALLER` and `ADDED` say.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
import ultralytics.cfg
import yaml
from IPython.core.interactiveshell import InteractiveShell
from support import ROOT, forked
from torch.distributed.run import get_args_parser
from ultralytics import YOLO
from ultralytics.cfg import MODES, TASKS
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT, SETTINGS
from ultralytics.utils.checks import check_yaml

import yolo_attn.cli
from yolo_attn.cli import COMMANDS, main
from yolo_attn.coco.dataset.locations import load_source

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = {"python", "yolo-attn", "yolo", "torchrun", "make", "pip", "ls"}

SMALLER = {
    r"--epochs \d+|--imgsz \d+|--batch \d+": "",  # ADDED has them
    r"SimAM,NAM,GAM(,CBAM)?": "SimAM",
    r"--seeds 0,1,2": "--seeds 0",
    r"epochs=\d+": "epochs=1",
    r"\bperson\b": "circle",
    r"\bcar\b": "star",
}
"""What is replaced in a command before it runs."""

ADDED = {
    "train": "--epochs 1 --imgsz 64 --batch 8 --device cpu plots=False",
    "val": "--imgsz 64 --batch 8 --device cpu plots=False",
    "export": "--imgsz 64",
    "compare": "--epochs 1 --imgsz 64 --batch 8 --device cpu plots=False",
    "attention-maps": "--pictures 1 --limit 4 --device cpu",
    "benchmarks/transfer.py stock": "--epochs 1 --imgsz 64 --seeds 0",
    "benchmarks/generate.py": "--images 40 --boxes 120 --val-images 8 --val-boxes 20 --categories 5 --pictures 4",
}
"""What is added to a command before it runs."""

ADDED_TO_SETTINGS = "epochs=1 imgsz=64 batch=8 device=cpu"

NOT_RUN = {
    r"yolo-attn train model=my\.yaml$": "stands for any model of one's own",
    r".*=\.\.\.": "stands for any such command",
    r"make ": "sets up an environment, or runs these tests; its targets are looked up",
    r"pip install": "the tests run in what it sets up",
    r".* --device 0": "needs a GPU",
    r"torchrun ": "needs GPUs; with gloo in tests/engine/training/test_distributed.py",
    r"python -m pytest": "runs these tests",
    r"python -m tools\.golden_checkpoints": "adds to the repository's archive",
    r"python -m tools\.versions": "hours, and installs releases; three of them in tests/tools/test_versions.py",
    r"python benchmarks/data\.py": "an hour; with --smoke in tests/benchmarks/test_data_cost.py",
    r"python benchmarks/layers\.py": "an hour; with --smoke in tests/benchmarks/test_layer_speed.py",
    r"python benchmarks/transfer\.py identity": "25 trainings by the code that `stock` runs",
    r".* --output runs/study": "the command of docs/compare.md with other numbers",
    r".* runs/study/": "needs the study's trainings",
}
"""Commands that are parsed alone, and why."""

LEFT = {
    "CONTRIBUTING.md": [],
    "classifiers.md": [
        *("runs/classify/train*/weights/best.pt", "runs/compare/towernet-cls/report.html"),
        "runs/attention-maps/index.html",
    ],
    "commands.md": ["runs/train/weights/best.pt", "runs/predict/*.jpg"],
    "compare.md": ["runs/compare/yolov8n/report.html", "runs/compare/yolov8n-cls/report.html"],
    "data.md": [
        "suspects/data_report.json",
        *(f"runs/detect/train*{n}/data_report.json" for n in ("2", "3", "4", "5")),
    ],
    "editing.md": ["yolov8n-gam8.yaml", "yolov8n-plain.yaml", "yolo11s-mine.yaml", "yolov8n-ours.yaml"],
    "export.md": [f"runs/detect/train/weights/best{suffix}" for suffix in (".onnx", ".safetensors", "_int8.onnx")],
    "maps.md": ["runs/attention-maps/index.html", "maps/gates.json"],
    "performance.md": ["runs/detect/train*/results.csv"],
    "pretrained.md": ["runs/detect/train*/transfer.json", "measured/transfer.csv", "measured/transfer.png"],
    "tasks.md": ["runs/pose/train/predictions.json", "runs/segment/train/predictions.json"],
}
"""What the commands of each page must have left."""

SLOW = {"compare.md", "data.md", "pretrained.md", "tasks.md"}


def blocks(page):
    """Language and content of each fenced block."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)


def words(command):
    """A command's words, without variables in front."""
    found = shlex.split(command, comments=True)
    return found[next((i for i, word in enumerate(found) if "=" not in word), 0) :]


def is_mention(found):
    """Whether words only name a command."""
    return found[0] in ("yolo", "yolo-attn", "python") and len(found) < 3 and found[1:] not in (["layers"], ["doctor"])


def commands(page):
    """Every command of a page, in its order."""
    text = page.read_text()
    found = []
    for part in re.split(r"(^ *```\w*\n.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE):
        if part.lstrip().startswith("```"):
            language, content = blocks(part)[0]
            lines = content.replace("\\\n", " ").splitlines() if language in ("bash", "sh", "console", "text") else []
            lines = [] if content.startswith("#!") else lines
        else:
            lines = [line for line in part.splitlines() if line.startswith("    ")]
            lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", part) if " " in code]
        for line in lines:
            with contextlib.suppress(ValueError):  # an apostrophe of a sentence
                if (words(line) or [""])[0] in TOOLS:
                    found.append(line.strip())
    return list(dict.fromkeys(found))


EVERY = [(page, command) for page in PAGES for command in commands(page)]


def test_commands_are_found():
    assert len(commands(ROOT / "README.md")) >= 7
    assert len(commands(ROOT / "docs/commands.md")) >= 6
    assert "python benchmarks/transfer.py plot --out measured" in commands(ROOT / "docs/pretrained.md")
    assert any("--master-port 29500 scripts" in " ".join(c.split()) for c in commands(ROOT / "docs/multi-gpu.md"))


def test_every_line_of_a_shell_block_is_a_command():
    for page in PAGES:
        for language, content in blocks(page.read_text()):
            if language in ("bash", "sh", "console") and not content.startswith("#!"):
                for line in filter(None, content.replace("\\\n", " ").splitlines()):
                    assert words(line)[0] in TOOLS, (page.name, line)


def test_reasons_are_of_commands_that_are_there():
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for _, command in EVERY), pattern


def ours(found):
    """The arguments of `yolo-attn` that a command's words mean, of its scripts too; None of other commands."""
    if found[0] == "yolo-attn":
        return found[1:]
    text = (ROOT / found[1]).read_text() if found[0] == "python" and found[1] != "-m" else ""
    script = re.search(r'main\(\["([\w-]+)", \*sys\.argv', text)
    return [script[1], *found[2:]] if script else None


def understand(arguments, monkeypatch):
    """Give arguments to `yolo-attn`, which runs nothing; its settings must be Ultralytics'."""
    given = []
    for command in COMMANDS.values():
        monkeypatch.setattr(command, "run", lambda args, further: given.extend(further))
    monkeypatch.setattr(yolo_attn.cli, "forward", lambda arguments: given.extend(arguments))
    assert main(arguments) == 0, arguments
    settings = [word for word in given if word not in {*MODES, *TASKS, "settings", "help"}]
    assert {word.partition("=")[0] for word in settings} <= {*DEFAULT_CFG_DICT}, settings


OF_OTHERS = {"pip", "ls", "yolo"}
"""Programs whose arguments are not ours to understand."""

OURS = [(page, command) for page, command in EVERY if words(command)[0] not in OF_OTHERS]


@pytest.mark.parametrize(("page", "command"), OURS, ids=[f"{page.stem}: {c[:60]}" for page, c in OURS])
def test_every_command_is_understood(page, command, monkeypatch):
    tool, *arguments = found = words(command)
    if tool == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif tool == "torchrun":
        args = get_args_parser().parse_args(arguments)
        understand(ours(["python", args.training_script, *args.training_script_args]), monkeypatch)
    elif tool in ("yolo-attn", "python") and is_mention(found):
        assert not ours(found) or ours(found)[0] in COMMANDS
    elif ours(found):
        understand(ours(found), monkeypatch)
    elif found[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(found[2])
    elif tool == "python":
        text = (ROOT / arguments[0]).read_text()
        assert all(f'"{word}"' in text for word in arguments if word.startswith("--"))


@pytest.mark.integration
def test_the_slurm_script_is_understood(monkeypatch):
    (script,) = [content for _, content in blocks((ROOT / "docs/multi-gpu.md").read_text()) if content.startswith("#!")]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for arguments in re.findall(r'TRAINING="(.*)"', script):
        understand(["train", *arguments.split()], monkeypatch)


@pytest.fixture
def folder(tmp_path, small_coco, small_poses):
    """A folder with all that the pages name."""
    for name in ("bccd", "coco", "more"):
        data = tmp_path / "path/to" / name
        shutil.copytree(small_coco, data)
        shutil.copytree(small_poses / "annotations", data / "annotations", dirs_exist_ok=True)
        shutil.copytree(data / "images/val", data / "images/test")
        shutil.copy(data / "annotations/instances_val.json", data / "annotations/instances_test.json")
    shutil.copytree(small_coco / "images/train", tmp_path / "path/to/exported/images")
    shutil.copy(small_coco / "annotations/instances_train.json", tmp_path / "path/to/exported/result.json")
    (tmp_path / "path/to/pictures").symlink_to(small_coco / "images/val")
    for n, image in enumerate(sorted((small_coco / "images/val").iterdir())[:12]):
        place = tmp_path / "path/to/imagenet" / ("train", "val")[n % 2] / "abc"[n % 3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    for room in ("scripts", "benchmarks"):
        (tmp_path / room).symlink_to(ROOT / room)
    names = load_source(small_coco, ["val"])["val"].index.category_names
    for file, cfg in {"trained.pt": "yolov8n-gam.yaml", "best.pt": "yolov8n.yaml", "base.pt": "yolov8n.yaml"}.items():
        model = DetectionModel(cfg, nc=len(names), verbose=False)
        model.names = dict(enumerate(names))
        torch.save({"model": model.half(), "train_args": {"imgsz": 64, "data": str(small_coco)}}, tmp_path / file)
    port = Path(check_yaml("yolov8.yaml")).read_text().replace("SPPF, [1024, 5]", "SimAM, [1024]")
    (tmp_path / "yolov8n-port.yaml").write_text(port)
    return tmp_path


def with_weights(folder):
    """The folder with the checkpoint that pages take for trained."""
    weights = folder / "runs/detect/train/weights"
    weights.mkdir(parents=True)
    shutil.copy(folder / "trained.pt", weights / "best.pt")
    return folder


def run_code(folder, code):
    """Run Python code in a folder as a user does."""
    result = forked(_execute, code, cwd=folder, timeout=550)
    assert result.returncode == 0, f"{code}\n{result.stdout[-6000:]}\n{result.stderr[-6000:]}"


def _as_a_user():
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    ultralytics.cfg.TESTS_RUNNING = False  # else Ultralytics puts runs elsewhere
    dict.__setitem__(SETTINGS, "runs_dir", "runs")  # a user's, not saved; of a clone it is a folder of the clone
    sys.path.insert(0, str(Path.cwd()))


def _execute(code):
    _as_a_user()
    exec(code, {"__name__": "__main__"})


def smaller(command):
    """A command as a page has it, made smaller."""
    for pattern, replacement in SMALLER.items():
        command = re.sub(pattern, replacement, command)
    command = command.partition(" #")[0]
    arguments = ours(words(command))
    if arguments:
        added = ADDED_TO_SETTINGS if "model=" in command else ADDED.get(arguments[0], "")
        size = "128" if "towernet" in command else "64"  # the least that it takes
        return f"{command} {added}".replace("imgsz 64", f"imgsz {size}")
    return command + next((f" {added}" for name, added in ADDED.items() if command.startswith(f"python {name}")), "")


def type_in(folder, command):
    """Run a command, made smaller, as a user types it: ours in a forked process, others by the shell."""
    command = smaller(command).replace("$PWD", str(folder))
    arguments = ours(words(command))
    if arguments:
        variables = dict(re.findall(r"([A-Z_]+)=(\S+) ", command.partition("yolo-attn")[0]))
        call = f"sys.exit(main({arguments}))"
        run_code(folder, f"import os, sys; os.environ.update({variables}); from yolo_attn.cli import main; {call}")
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True)
    assert result.returncode == 0, (command, result.stderr.decode(errors="replace"))


def to_run(page):
    """The commands of a page that run."""
    found = [command for command in commands(page) if not is_mention(words(command))]
    return [command for command in found if not any(re.match(pattern, command) for pattern in NOT_RUN)]


@pytest.mark.integration
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.name in SLOW else ())
        for page in PAGES[1:]
        if to_run(page)
    ],
)
def test_commands_run(page, folder):
    if page.name != "tasks.md":  # whose commands train it
        with_weights(folder)
    for command in to_run(page):
        type_in(folder, command)
    for pattern in LEFT[page.name]:
        assert list(folder.glob(pattern)), pattern
    if page.name in SEEN:
        SEEN[page.name](folder)


@pytest.mark.integration
def test_the_readme_runs_from_nothing(tmp_path, folder):
    """Every line of its shell blocks, in order, in a fresh copy and a new environment, where pip installs as it says.

    Only PyTorch and the other packages are not fetched again: the environment sees those that are installed.
    """
    home = tmp_path / "yolo_attn"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)
    (home / "path").symlink_to(folder / "path")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    (packages,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    installed = str(Path(torch.__file__).parents[1])
    (packages / "installed.pth").write_text(f"import sys; sys.path.insert(1, {installed!r})\n")
    env = {name: value for name, value in os.environ.items() if name not in {"PYTEST_CURRENT_TEST", "PYTHONPATH"}}
    env |= {"PATH": f"{tmp_path}/venv/bin:{env['PATH']}", "VIRTUAL_ENV": f"{tmp_path}/venv"}
    env |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # which, in pip's words, means without isolation
    shell = [content for language, content in blocks(README.read_text()) if language == "bash"]
    shown = []
    for line in filter(None, "".join(shell).replace("\\\n", " ").splitlines()):
        given = {"shell": True, "cwd": home, "env": env, "capture_output": True, "text": True, "timeout": 300}
        command = smaller(line).replace("plots=False", "plots=True")  # which the page lists
        result = subprocess.run(command, check=False, **given)
        assert result.returncode == 0, (line, f"{result.stdout}{result.stderr}"[-6000:])
        shown.append(result.stdout)
    promised = re.search(r"^ls \S+ +# (.*), plots$", README.read_text(), re.MULTILINE)[1].split(", ")
    assert len(promised) == 5
    assert any(set(promised) <= set(each.split()) for each in shown)
    for left in ("yolov9t-mine.yaml", "runs/detect/val/metrics.json", "runs/compare/yolov8n/report.html"):
        assert (home / left).is_file()
    code = "import yolo_attn; print(yolo_attn.__file__)"
    place = subprocess.run(["python", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert place.stdout.strip() == str(home / "yolo_attn/__init__.py")


def edited(folder):
    """The edits are what docs/editing.md says."""
    assert YOLO(folder / "yolov8n-ours.yaml").model.yaml["backbone"][9] == [-1, 1, "SimAM", []]
    assert (folder / "yolov8n-plain.yaml").read_bytes() == Path(check_yaml("yolov8.yaml")).read_bytes()
    kinds = [type(m).__name__ for m in YOLO(folder / "yolo11s-mine.yaml").model.model]
    assert [i for i, kind in enumerate(kinds) if kind == "NAM"] == [5, 8]


def drawn(folder):
    """The files are those that docs/maps.md lists."""
    reported = set(re.findall(r"`(index.html|gates.\w+)`", (ROOT / "docs/maps.md").read_text()))
    for output in ("runs/attention-maps", "maps"):
        assert reported == {f.name for f in (folder / output).iterdir() if not f.name.startswith("001-")}


SEEN = {"editing.md": edited, "maps.md": drawn}

SNIPPETS = [
    (page, code)
    for page in PAGES
    for language, code in blocks(page.read_text())
    if language == "python" and page.name not in ("README.md", "commands.md")  # which tests/test_readme.py runs
]


def in_notebook(cells):
    """Run cells as a notebook does."""
    _as_a_user()
    shell = InteractiveShell.instance()
    for cell in cells:
        shell.run_cell(cell).raise_error()


@pytest.mark.integration
def test_the_cells_of_a_notebook_run(folder):
    """A layer that a cell writes into a module is trained with; one that a cell defines is refused before that."""
    cells = [code for language, code in blocks((ROOT / "docs/python.md").read_text()) if language == "text"]
    cells[-1] = cells[-1].replace("epochs=100", "epochs=1, imgsz=64, batch=8, device='cpu', plots=False")
    rows = yaml.safe_load((ROOT / "examples/own_layer.yaml").read_text())
    (folder / "my-model.yaml").write_text(yaml.safe_dump(rows))
    result = forked(in_notebook, cells, cwd=folder, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert (folder / "runs/detect/train/weights/best.pt").exists()
    defined = [cells[0].partition("\n")[2], cells[-1].replace("import my_layers\n", "")]
    result = forked(in_notebook, defined, cwd=folder, timeout=300)
    assert result.returncode
    assert "Scale" in result.stdout + result.stderr
    assert "put it into a module" in result.stdout + result.stderr


@pytest.mark.integration
@pytest.mark.parametrize(("page", "code"), SNIPPETS, ids=[page.stem for page, _ in SNIPPETS])
def test_python_runs(page, code, folder):
    run_code(with_weights(folder), code)
