"""The help and the version, which a newcomer sees first."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import yolo_attn
from yolo_attn.cli import COMMANDS, main

YOLO_ATTN = [Path(sys.executable).with_name("yolo-attn")]
MODULE = [sys.executable, "-m", "yolo_attn"]


def run(command, *arguments, cwd):
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_help_names_every_command_and_both_grammars(tmp_path):
    result = run(MODULE, "--help", cwd=tmp_path)
    assert result.returncode == 0
    for text in (*COMMANDS, "--cfg yolov8n-gam.yaml", "model=yolov8n-gam.yaml data=path/to/coco epochs=3", "--import"):
        assert text in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120
    imported = run([sys.executable, "-X", "importtime", "-m"], "yolo_attn", "--help", cwd=tmp_path).stderr
    assert not re.search(r"\b(torch|ultralytics)\b", imported)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: yolo-attn {command} ")


def test_help_has_the_whole_penalty(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "P·(Σ|γ| + Σ|λ|)" in " ".join(capsys.readouterr().out.split())


def test_version_is_ours_and_the_word_is_ultralytics(tmp_path):
    import ultralytics

    assert run(MODULE, "--version", cwd=tmp_path).stdout.split() == ["yolo-attn", yolo_attn.__version__]
    assert run(MODULE, "version", cwd=tmp_path).stdout.split()[-1] == ultralytics.__version__


def test_installed_command_is_the_same(tmp_path):
    assert run(YOLO_ATTN, "--help", cwd=tmp_path).stdout == run(MODULE, "--help", cwd=tmp_path).stdout


def test_a_missing_command_is_a_mistake(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "yolo-attn: error: the following arguments are required: COMMAND; see yolo-attn --help\n"
    )


def test_options_are_taken_by_their_whole_names_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--cfg", "yolov8n.yaml", "--epoch", "3"]) == 2
    assert "'--epoch': expected an option or key=value; did you mean --epochs?" in capsys.readouterr().err
