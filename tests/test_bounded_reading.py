"""Files that may be anything: none of them is waited for, read without end, or built larger than it is written."""

import os
import time
from pathlib import Path

import pytest
import yaml

from yolo_attn.bounded_reading import LARGEST_YAML, load_yaml, open_plain, read_plain, read_yaml
from yolo_attn.errors import UserError


@pytest.mark.parametrize("read", [open_plain, lambda file: read_plain(file, 10), read_yaml])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda file: file.symlink_to("/dev/zero")])
def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path, make, read):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=f"^{tmp_path / 'x'}: .*, expected a plain file$"):
        read(tmp_path / "x")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr("yolo_attn.bounded_reading.check_plain_file", lambda file: None)
        with pytest.raises(UserError, match="pipe: it has changed, expected a plain file"):
            open_plain(tmp_path / "pipe")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_file_is_read_to_its_last_byte_and_not_beyond_the_bound(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"0123456789")
    assert read_plain(file, 10) == b"0123456789"
    with pytest.raises(UserError, match=r"x: it has 10 bytes, expected at most 9"):
        read_plain(file, 9)
    with pytest.raises(UserError, match=r"/proc/self/status: it has more than 9 bytes"):
        read_plain("/proc/self/status", 9)
    with pytest.raises(UserError, match="nothing: no such file"):
        read_plain(tmp_path / "nothing", 9)


def many_of(row, first, times=9, depth=12):
    return f"a0: &a0 {first}\n" + "".join(
        f"a{n}: &a{n} {row.format(', '.join([f'*a{n - 1}'] * times))}\n" for n in range(1, depth)
    )


LARGE = {
    "aliases of aliases": (many_of("[{}]", "[x, x]"), "more than 250,000 values"),
    "merges of merges": (many_of("{{<<: [{}]}}", "{x: 1}"), "more than 250,000 values"),
    "an alias inside of itself": ("&a [*a]", r"\*a stands inside what it stands for"),
    "open brackets": ("[" * 100_000, "nesting depth|inside each other"),
    "lists in lists": ("- " * 100_000, "more than 100 lists or mappings inside each other"),
    "keys of keys": ("? " * 100_000, "more than 100 lists or mappings inside each other"),
    "indented": ("\n".join(" " * n + "a:" for n in range(2000)), "more than 100 lists or mappings inside each other"),
    "one long number": ("a: 1" + ":1" * 10**6, "a number has 2,000,001 characters; put text in quotes"),
    "long fractions": ("a: 1" + ":1" * 4000 + ".5", "a number has 8,003 characters"),
    "a number that Python cannot print": ("a: 0x" + "f" * 5000, "a number has 5,002 characters"),
    "a long number by its tag": ("a: !!int '" + "1" * 5000 + "'", "a number has 5,000 characters"),
    "a wrong int": ("a: !!int ''", "IndexError"),
    "a wrong bool": ("a: !!bool x", "KeyError"),
    "a wrong date": ("a: !!timestamp x", "AttributeError"),
    "an unknown anchor": ("a: *" + "x" * 10**6, "undefined alias"),
    "an unknown tag": ("a: !" + "x" * 10**6 + " 1", "could not determine a constructor"),
    "two texts": ("a: 1\n---\nb: 2\n", "expected a single document"),
    "more than any file has": ("a: '" + "x" * LARGEST_YAML + "'", "4,194,309 characters, expected at most 4,194,304"),
    "a 13th month": ("a: 2001-13-13", "month must be in"),
    "code": ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
}


@pytest.mark.parametrize("case", LARGE)
@pytest.mark.integration
def test_a_yaml_that_would_grow_without_end_is_refused(tmp_path, case):
    text, reported = LARGE[case]
    start = time.process_time()
    with pytest.raises((yaml.YAMLError, ValueError), match=reported):
        load_yaml(text)
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"^{tmp_path}/x\.yaml: .*({reported}|expected at most 4,194,304)") as error:
        read_yaml(tmp_path / "x.yaml")
    assert len(str(error.value)) < 600
    assert time.process_time() - start < 5


def test_what_people_write_is_read(tmp_path):
    assert load_yaml("a: &a {x: [1, 2.5, '3']}\nb: {<<: *a, y: *a}\nc: 2001-01-01\nd: " + "word " * 3000)["b"] == {
        "x": [1, 2.5, "3"],
        "y": {"x": [1, 2.5, "3"]},
    }
    assert load_yaml("") is None
    assert load_yaml("a: " + "x1" * 5000 + "\nb: '" + "1" * 5000 + "'\n") == {"a": "x1" * 5000, "b": "1" * 5000}
    names = [f"class {n}" for n in range(20_000)]
    (tmp_path / "x.yaml").write_bytes(yaml.safe_dump({"names": names}).encode() + b"place: '\xff'\n")
    assert read_yaml(tmp_path / "x.yaml") == {"names": names, "place": "\ufffd"}
