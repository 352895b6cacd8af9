"""A working folder of the user's, and commands that must leave it as it is."""

import pytest
from support import listing

from yolo_attn.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must fail without writing anything, and returns its one line."""

    def run(*arguments):
        before = listing(here)
        assert main([*map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert listing(here) == before
        assert line.startswith("yolo-attn: error: ")
        return line.removeprefix("yolo-attn: error: ")

    return run
