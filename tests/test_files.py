"""Paths that are no plain files."""

import os
import re
import socket

import pytest

from yolo_attn.errors import UserError
from yolo_attn.files import check_plain_file


@pytest.fixture
def places(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to_fifo").symlink_to("fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "device").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
    return tmp_path


@pytest.mark.parametrize("name", ["file", "link"])
def test_plain_files_and_links_to_them_pass(name, places):
    check_plain_file(places / name)
    check_plain_file(str(places / name), "--cfg")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("folder", "a folder, expected a plain file"),
        ("fifo", "a FIFO, expected a plain file"),
        ("to_fifo", "a FIFO, expected a plain file"),
        ("device", "a device, expected a plain file"),
        ("socket", "a socket, expected a plain file"),
        ("gone", "no such file"),
        ("dangling", "no such file"),
        ("file/below", "no such file"),
        ("loop", "not readable: Too many levels of symbolic links"),
        ("n" * 300, "not readable: File name too long"),
        ("null\0", "not readable: embedded null byte"),
    ],
)
def test_anything_else_is_refused_without_opening_it(name, found, places):
    for label in ("", "--cfg x"):
        with pytest.raises(UserError, match=re.escape(f"{label or places / name}: {found}")):
            check_plain_file(places / name, label)
