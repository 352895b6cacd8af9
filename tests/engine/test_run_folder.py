"""A run folder is one training's own, whichever release of Ultralytics chooses its name."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import ROOT, run_python
from ultralytics.utils import files as paths

from yolo_attn.engine import run_folder
from yolo_attn.engine.run_folder import ATTEMPTS, claim
from yolo_attn.errors import UserError


def folder_made_while_chosen(args):
    """What `get_save_dir` of Ultralytics 8.3.251 to 8.4.3 does."""
    if getattr(args, "save_dir", None):
        return Path(args.save_dir)
    return paths.increment_path(Path(args.project) / args.name, exist_ok=args.exist_ok, mkdir=True)


def only_chosen(args):
    """What `get_save_dir` of all other releases does."""
    if getattr(args, "save_dir", None):
        return Path(args.save_dir)
    return paths.increment_path(Path(args.project) / args.name, exist_ok=args.exist_ok)


@pytest.fixture(params=[folder_made_while_chosen, only_chosen])
def _releases(request, monkeypatch):
    monkeypatch.setattr(run_folder.cfg, "get_save_dir", request.param)


def settings(project, **more):
    return SimpleNamespace(**{"project": str(project), "name": "train", "exist_ok": False, "save_dir": None, **more})


def tree(folder):
    return {str(f.relative_to(folder)) for f in folder.rglob("*")}


@pytest.mark.usefixtures("_releases")
class TestClaim:
    def test_the_folders_made_are_reported_and_no_others(self, tmp_path):
        (tmp_path / "there").mkdir()
        args = settings(tmp_path / "there/a/b")
        made = claim(args)
        assert made == [tmp_path / "there/a/b/train", tmp_path / "there/a/b", tmp_path / "there/a"]
        assert args.save_dir == str(made[0])
        again = settings(tmp_path / "there/a/b")
        second = paths.increment_path(made[0])  # as Ultralytics' own release numbers runs
        assert claim(again) == [second]
        assert tree(tmp_path) == {"there", "there/a", "there/a/b", "there/a/b/train", f"there/a/b/{second.name}"}

    @pytest.mark.parametrize("given", ["exist_ok", "save_dir"])
    def test_a_folder_that_is_there_is_shared_where_the_user_says_so(self, tmp_path, given):
        there = tmp_path / "train"
        there.mkdir()
        (there / "mine.txt").write_text("mine")
        args = settings(tmp_path, **{given: True if given == "exist_ok" else str(there)})
        assert claim(args) == []
        assert tree(tmp_path) == {"train", "train/mine.txt"}

    @pytest.mark.integration
    def test_trainings_that_start_at_once_get_a_folder_each(self, tmp_path):
        given = [settings(tmp_path / "runs/new") for _ in range(24)]
        with ThreadPoolExecutor(12) as pool:
            made = list(pool.map(claim, given))
        assert len({args.save_dir for args in given}) == len(given)
        assert len({folder for each in made for folder in each}) == sum(map(len, made)) == len(given) + 2
        assert paths.increment_path.__module__ == "ultralytics.utils.files"

    @pytest.mark.parametrize("kind", ["taken", "link"])
    def test_ends_where_every_name_is_taken(self, tmp_path, monkeypatch, kind):
        tried = []

        def taken(args):
            tried.append(args)
            return tmp_path / "train"

        monkeypatch.setattr(run_folder.cfg, "get_save_dir", taken)
        if kind == "taken":
            (tmp_path / "train").mkdir()
        else:
            (tmp_path / "train").symlink_to(tmp_path / "nowhere")
        with pytest.raises(UserError, match=f"^{tmp_path}/train: no run folder can be made there"):
            claim(settings(tmp_path))
        assert len(tried) == ATTEMPTS
        assert tree(tmp_path) == {"train"}

    def test_nothing_is_left_where_the_folder_cannot_be_made(self, tmp_path, monkeypatch):
        mkdir = Path.mkdir

        def no_room(self, *args, **kwargs):
            if self.name == "train":
                raise OSError(28, "No space left on device", str(self))
            return mkdir(self, *args, **kwargs)

        monkeypatch.setattr(Path, "mkdir", no_room)
        monkeypatch.setattr(run_folder.cfg, "get_save_dir", only_chosen)
        with pytest.raises(OSError, match="No space left"):
            claim(settings(tmp_path / "a/b"))
        assert tree(tmp_path) == set()


CLAIMS = """
from types import SimpleNamespace
import ultralytics
import yolo_attn
from ultralytics.utils.files import increment_path
from yolo_attn.engine.run_folder import claim

args = dict(project={project!r}, name="train", exist_ok=False, save_dir=None, task="detect", mode="train")
print(ultralytics.__version__, *claim(SimpleNamespace(**args)))
expected = increment_path({project!r} + "/train")
assert claim(SimpleNamespace(**args)) == [expected]
print(expected)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["8.3.251", "8.4.3"])
def test_releases_that_make_the_folder_as_they_choose_it(release, tmp_path, version):
    """The very releases; the quick tests stand in for them."""
    path = os.pathsep.join([str(release(version)), str(ROOT)])
    code = CLAIMS.format(project=str(tmp_path / "runs"))
    result = run_python(code, tmp_path, PYTHONPATH=path, YOLO_CONFIG_DIR=str(tmp_path))
    runs = tmp_path / "runs"
    first, second = result.stdout.splitlines()[-2:]
    assert first == f"{version} {runs / 'train'} {runs}"
    assert tree(runs) == {"train", Path(second).name}
