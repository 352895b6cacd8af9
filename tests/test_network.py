"""No command looks up a host, connects to one, starts pip, or leaves anything of a reporter in the home folder.

Python's own calls are seen by an audit hook in every process, those of native code by strace where it can run.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from support import QUICK, ROOT
from ultralytics.nn.tasks import DetectionModel

WATCH = """
import os, sys

def watch(event, args):
    if event == "socket.connect":
        address = args[1]
        noted = isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost")
    elif event == "subprocess.Popen":
        noted = {"pip", "uv", "curl", "wget", "ping", "git"} & {os.path.basename(str(word)) for word in args[1]}
    else:
        looks_up = event in ("socket.getaddrinfo", "socket.gethostbyname")
        noted = looks_up and args[0] not in (None, "127.0.0.1", "localhost")
    if noted:
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {args}\\n")

sys.addaudithook(watch)
"""

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]

ADDRESS = re.compile(
    r'sa_family=AF_INET6?,.*?sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([\d.:a-f]+)"'
)

OWN_FOLDERS = (".config/Ultralytics", ".config/matplotlib", ".cache/matplotlib", ".cache/yolo_attn")
"""What Ultralytics, matplotlib and this package keep in a home folder."""


def can_trace():
    return (
        shutil.which("strace")
        and not subprocess.run([*STRACE, "-o", os.devnull, "true"], capture_output=True).returncode
    )


def reached(line):
    """What a traced call has to do with the network: a host, or whoever looks hosts up."""
    if "systemd/resolve" in line:
        return line
    found = ADDRESS.search(line)
    return line if found and (found[1] == "53" or (not found[2].startswith("127.") and found[2] != "::1")) else None


class Watched:
    """Runs commands in a fresh home folder, and collects what they do that they should not."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "watch").mkdir()
        (folder / "watch/sitecustomize.py").write_text(WATCH)

    def run(self, *command):
        calls, traced = self.folder / "calls.txt", self.folder / "traced.txt"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "XDG_", "ORT_")) and k != "CI"}
        environment = {
            **kept,
            "HOME": str(self.home),
            "WATCHED": str(calls),
            "PYTHONPATH": os.pathsep.join(map(str, (self.folder / "watch", ROOT))),
        }
        trace = [*STRACE, "-o", str(traced)] if can_trace() else []
        return subprocess.run(
            [*trace, sys.executable, *map(str, command)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=550,
        )

    def seen(self):
        """Calls of Python, system calls, and files at home that belong to neither Ultralytics nor us."""
        calls, traced = ((self.folder / name) for name in ("calls.txt", "traced.txt"))
        lines = calls.read_text().splitlines() if calls.exists() else []
        lines += list(filter(None, map(reached, traced.read_text().splitlines()))) if traced.exists() else []
        files = [str(file.relative_to(self.home)) for file in self.home.rglob("*") if file.is_file()]
        return lines + [file for file in files if not file.startswith(OWN_FOLDERS)]


@pytest.fixture
def watched(tmp_path, small_coco):
    """A folder with data that has a class name that is not ASCII, and with a checkpoint."""
    (tmp_path / "data/annotations").mkdir(parents=True)
    (tmp_path / "data/images").symlink_to(small_coco / "images")
    for split in ("train", "val"):
        content = json.loads((small_coco / f"annotations/instances_{split}.json").read_text())
        content["categories"][0]["name"] = "круг"
        (tmp_path / f"data/annotations/instances_{split}.json").write_text(json.dumps(content))
    names = {i: category["name"] for i, category in enumerate(content["categories"])}
    model = DetectionModel("yolov8n-simam.yaml", nc=len(names), verbose=False)
    model.names = names
    torch.save({"model": model, "train_args": {"imgsz": 64}}, tmp_path / "best.pt")
    return Watched(tmp_path)


OURS = ["-m", "yolo_attn"]
ONNX = [*OURS, "export", "--weights", "best.pt", "--format", "onnx", "--imgsz", 64]
COMPARE = [*OURS, "compare", "--base", "yolov8n.yaml", "--layers", "SimAM"]
PREDICT = [*OURS, "predict", "source=data/images/val", "imgsz=64", "device=cpu"]

PLAIN = """
import os
os.environ["YOLO_OFFLINE"] = "1"
import yolo_attn
from ultralytics import YOLO

settings = dict(imgsz=64, device="cpu", project=os.path.abspath("runs"))
if __name__ == "__main__":
    model = YOLO("yolov8n-gam.yaml")
    model.train(data="data", epochs=1, batch=8, **settings)
    model.val(**settings)
    model.predict("data/images/val", **settings)
    for fmt in ("onnx", "openvino"):
        YOLO(model.export(format=fmt, imgsz=64)).predict("data/images/val", **settings)
"""

COMMANDS = {
    "train": [[*OURS, "train", "--cfg", "yolov8n-simam.yaml", "--data", "data", "--epochs", 1, *QUICK]],
    "val": [[*OURS, "val", "--weights", "best.pt", "--data", "data", *QUICK]],
    "predict with .onnx": [ONNX, [*PREDICT, "model=best.onnx"]],
    "export openvino": [[*OURS, "export", "--weights", "best.pt", "--format", "openvino", "--imgsz", 64]],
}

SLOW = {
    "predict with .pt": [[*PREDICT, "model=best.pt"]],
    "export in Ultralytics' grammar": [[*OURS, "export", "model=best.pt", "format=openvino", "imgsz=64"]],
    "attention-maps": [
        [*OURS, "attention-maps", "--weights", "best.pt", "--source", "data/images/val", "--pictures", 1]
    ],
    "compare": [
        [*COMPARE, "--data", "data", "--seeds", 0, "--epochs", 1, *QUICK],
    ],
    "doctor": [[*OURS, "doctor"]],
    "plain Python": [["plain.py"]],
}


@pytest.mark.integration
@pytest.mark.trap(20)
@pytest.mark.parametrize(
    "commands",
    [
        *(pytest.param(commands, id=name) for name, commands in COMMANDS.items()),
        *(pytest.param(commands, id=name, marks=pytest.mark.slow) for name, commands in SLOW.items()),
    ],
)
def test_nobody_is_asked_and_nothing_is_left_at_home(watched, commands):
    (watched.folder / "plain.py").write_text(PLAIN)
    for command in commands:
        result = watched.run(*command)
        assert result.returncode == 0, result.stderr
        assert watched.seen() == []


LOOK_UPS = {
    "Python": "import socket; socket.getaddrinfo('203.0.113.1', 53)",
    "a process": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; "
    'socket.getaddrinfo("203.0.113.1", 53)\'])',
    "pip": "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', '--version'])",
    "a file": "import pathlib; pathlib.Path.home().joinpath('.id').write_text('1')",
}

NATIVE = """
import ctypes, socket, struct
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 53, socket.inet_aton("203.0.113.1"))
libc = ctypes.CDLL(None)
libc.connect(libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0), address, len(address))  # sends nothing
"""


@pytest.mark.integration
@pytest.mark.parametrize("code", LOOK_UPS.values(), ids=LOOK_UPS)
def test_the_watch_sees(watched, code):
    assert watched.run("-c", code).returncode == 0
    assert len(watched.seen()) == 1


@pytest.mark.integration
def test_the_watch_sees_native_code(watched):
    if not can_trace():
        pytest.skip("strace is absent here, or may not trace")
    assert watched.run("-c", NATIVE).returncode == 0
    assert len(watched.seen()) == 1
