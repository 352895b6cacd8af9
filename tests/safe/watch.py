"""Reads the files of a folder with `load_safe`, and reports everything that they made this process do.

Started in the folder, in a process of its own, since an audit hook stays for good. Prints a JSON: for each file what
came of it, and what happened that must not.
"""

import codecs
import json
import resource
import signal
import sys
from pathlib import Path

import torch
import torchvision  # noqa: F401  as classifiers import it
import ultralytics.nn.tasks as tasks
from torch import nn, serialization
from ultralytics.nn import modules

import yolo_attn
from yolo_attn.errors import UserError

SECONDS = 60
MEMORY = 3 * 2**30
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "tempfile.", "ctypes.", "urllib.", "glob.", "pickle.")

watched, happened = None, []


class Late(BaseException):
    pass


def heed(event, arguments):
    if watched is None:
        return
    if event == "open" and arguments[0] != watched and not isinstance(arguments[0], int):  # one that is open
        happened.append(f"open {arguments[0]}")
    elif event == "import" or event.startswith(FORBIDDEN):
        happened.append(f"{event} {arguments[:1]}")


def late(*_):
    raise Late


def state(counting):
    """Attributes of classes, but for the counts of parameters where Ultralytics' own parser keeps them there."""
    found = [torch.Tensor, nn.Module, nn.Parameter, *(v for m in (nn, modules, tasks) for v in vars(m).values())]
    classes = {kind for kind in found if isinstance(kind, type)}
    lists = getattr(serialization, "get_safe_globals", list)()
    own = ((c, name, value) for c in classes for name, value in vars(c).items())
    kept = {(c, name): id(value) for c, name, value in own if not (counting and name == "np" and type(value) is int)}
    return [kept, *map(str, lists)]


def attempt(file):
    global watched
    signal.alarm(SECONDS)
    watched = str(file)
    try:
        yolo_attn.load_safe(file)
        outcome = "loaded"
    except UserError as error:
        outcome = str(error)
    except Exception as error:
        outcome = f"other {type(error).__name__}: {error}"
    except Late:
        outcome = "other: it takes too long"
    finally:
        watched = None
        signal.alarm(0)
    return outcome


def main():
    signal.signal(signal.SIGALRM, late)
    files = sorted(Path().glob("*.pt")) + sorted(Path().glob("*.safetensors"))
    for file in [Path("0_good.pt"), Path("0_good.pt"), Path("0_refused.pt")]:  # whatever is imported on first use
        attempt(file)
    codecs.lookup("cp437")  # of names in zip files
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    sys.addaudithook(heed)
    counting = "np" in vars(modules.Conv)  # early 8.3 does, once it has built a good file's model
    before, there = state(counting), {file.name for file in Path().iterdir()}
    told = {}
    for file in files:
        told[file.name] = [attempt(file), list(happened)]
        happened.clear()
    changed = [] if state(counting) == before else ["attributes of classes, or PyTorch's list"]
    print(
        json.dumps({"files": told, "changed": changed, "new": sorted({file.name for file in Path().iterdir()} - there)})
    )


main()
