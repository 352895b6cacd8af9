"""The help and the version, which a newcomer sees first."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import ultralytics

import yolo_attn
from yolo_attn.cli import COMMANDS, main


@pytest.fixture
def shown(capsys):
    """Runs a command that prints and ends well; returns its output."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_help_names_every_command_and_both_grammars(shown):
    text = shown("--help")
    for word in (*COMMANDS, "--cfg yolov8n-gam.yaml", "model=yolov8n-gam.yaml data=path/to/coco epochs=3", "--import"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.integration
def test_the_installed_command_shows_it_without_loading_ultralytics(shown, tmp_path):
    command = [sys.executable, "-X", "importtime", Path(sys.executable).with_name("yolo-attn"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.stdout == shown("--help")
    assert "yolo_attn" in result.stderr
    assert not re.search(r"\b(torch|ultralytics)\b", result.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command, shown):
    assert shown(command, "--help").startswith(f"usage: yolo-attn {command} ")


def test_help_has_the_whole_penalty(shown):
    assert "P·(Σ|γ| + Σ|λ|)" in " ".join(shown("train", "--help").split())


def test_version_is_ours_and_the_word_is_ultralytics(shown, caplog):
    assert shown("--version").split() == ["yolo-attn", yolo_attn.__version__]
    assert main(["version"]) == 0
    assert caplog.messages[-1] == ultralytics.__version__


def test_a_missing_command_is_a_mistake(refused):
    assert refused() == "the following arguments are required: COMMAND; see yolo-attn --help"


def test_options_are_taken_by_their_whole_names_alone(refused):
    line = refused("train", "--cfg", "yolov8n.yaml", "--epoch", "3")
    assert line == "'--epoch': unknown; did you mean --epochs?"
