"""Paths that are no plain files, and files as they are written."""

import os
import re
import socket
import stat

import pytest

from yolo_attn.errors import UserError
from yolo_attn.files import check_plain_file, write_bytes


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


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_written_files_have_the_permissions_of_the_user_or_of_the_file_before(tmp_path, umask):
    (tmp_path / "private").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "private")
    before = os.umask(umask)
    try:
        for name in ("new", "private", "link"):
            write_bytes(tmp_path / name, b"content")
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.lstat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"new": 0o666 & ~umask, "private": 0o600, "link": 0o666 & ~umask}
