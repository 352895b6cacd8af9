"""File names as they should not be: found where they lead, and only in their folder."""

import pytest
from hostile import BASE, OUTSIDE, read, reported
from hostile import images as image_set
from support import save_noise

from yolo_attn.environment import OUTSIDE_VARIABLE
from yolo_attn.errors import UserError

OTHERWISE = {"image file found under another spelling of its file_name": 1}

NAMES = {
    "in a folder": ("sub/x.jpg", "sub/x.jpg", {}),
    "through a folder and back": ("sub/../x.jpg", "x.jpg", {}),
    "doubled slash": ("sub//x.jpg", "sub/x.jpg", {}),
    "backslash": ("sub\\x.jpg", "sub/x.jpg", OTHERWISE),
    "other case": ("sub/X.JPG", "sub/x.jpg", OTHERWISE),
    "other case, accents": ("É.JPG", "é.jpg", OTHERWISE),
    "composed, decomposed on the disk": ("caf\u00e9.jpg", "cafe\u0301.jpg", OTHERWISE),
    "decomposed, composed on the disk": ("cafe\u0301.jpg", "caf\u00e9.jpg", OTHERWISE),
    "another Unicode form and other case": ("CAF\u00c9.JPG", "cafe\u0301.jpg", OTHERWISE),
    "folders in another Unicode form": (
        "\u00e9t\u00e9/\u00e0/\u00fc.jpg",
        "e\u0301te\u0301/a\u0300/u\u0308.jpg",
        OTHERWISE,
    ),
    "folders in other case": ("A/B/x.jpg", "a/b/x.jpg", OTHERWISE),
    "Hangul, decomposed on the disk": ("\uac01.jpg", "\u1100\u1161\u11a8.jpg", OTHERWISE),
    "percent-encoded": ("a%20b%2Bc.jpg", "a b+c.jpg", OTHERWISE),
    "percent as it is": ("a%20b.jpg", "a%20b.jpg", {}),
    "link": ("https://host.example/some/x%20y.jpg?size=3#top", "x y.jpg", OTHERWISE),
    "broken link": ("http://[host/x.jpg", None, {"image file missing": 1}),
    "absolute, inside": ("{images}/x.jpg", "x.jpg", {}),
    "absolute, outside": ("{images}/../secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards": ("../secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, encoded": ("..%2Fsecret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, backslashes": ("..\\secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, nothing there": ("../nothing.jpg", None, {"image file missing": 1}),
    "device": ("/dev/zero", None, OUTSIDE),
    "home": ("~/x.jpg", None, {"image file missing": 1}),
    "dots alone": ("..", None, {"image that is not a file": 1}),
    "line break": ("a\nb.jpg", "a\nb.jpg", {}),
    "Windows path": ("C:\\pictures\\x.jpg", None, {"image file missing": 1}),
}
"""A file name, where the file lies in the image folder, and what is reported."""


@pytest.mark.parametrize("case", NAMES)
def test_file_name(written, case):
    name, place, problems = NAMES[case]
    images = (written(BASE) / "images/val").resolve()
    if place:
        save_noise(images / place)
    (images / "sub").mkdir(exist_ok=True)
    _, examined = read(written(image_set("1.jpg", name.format(images=images))))
    assert reported(examined) == problems
    assert examined.report.usable == (2 if place and problems != OUTSIDE else 1)


def test_the_same_unicode_form_comes_before_other_case(written):
    images = written(BASE) / "images/val"
    save_noise(images / "e\u0301.jpg", (30, 20))
    save_noise(images / "\u00c9.jpg", (20, 30))
    _, examined = read(written(image_set("\u00e9.jpg", "E\u0301.jpg")))
    assert [label["shape"] for label in examined.labels] == [(20, 30), (30, 20)]
    assert reported(examined) == {"image file found under another spelling of its file_name": 2}


def test_a_set_whose_names_are_all_in_another_unicode_form_is_found(written):
    images = written(BASE) / "images/val"
    for n in (1, 2, 3):
        (images / f"{n}.jpg").rename(images / f"u\u0308{n}.jpg")
    _, examined = read(written(image_set(*(f"\u00fc{n}.jpg" for n in (1, 2, 3)))))
    assert examined.report.usable == 3
    assert reported(examined) == {"image file found under another spelling of its file_name": 3}


def test_the_same_name_in_two_folders(written):
    images = written(BASE) / "images/val"
    save_noise(images / "a/x.jpg", (30, 20))
    save_noise(images / "b/x.jpg", (20, 30))
    _, examined = read(written(image_set("a/x.jpg", "b/x.jpg")))
    assert [label["shape"] for label in examined.labels] == [(20, 30), (30, 20)]
    assert reported(examined) == {}


def test_symbolic_links(written, tmp_path, monkeypatch):
    """Those that leave the folder are refused, in a line that says what helps; the folder itself may be one."""
    images = written(BASE) / "images/val"
    save_noise(tmp_path / "elsewhere/x.jpg")
    (images / "x.jpg").symlink_to(tmp_path / "elsewhere/x.jpg")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    (images / "inside.jpg").symlink_to("1.jpg")
    (images / "nowhere.jpg").symlink_to("gone.jpg")
    (images / "circle.jpg").symlink_to("circle.jpg")
    names = ["1.jpg", "x.jpg", "folder/x.jpg", "inside.jpg", "nowhere.jpg", "circle.jpg"]
    _, examined = read(written(image_set(*names)))
    assert reported(examined) == {"image file outside its image folder": 2, "image file missing": 2}
    assert "--allow-outside accepts it" in " ".join(examined.report.problems.lines())
    with pytest.raises(UserError, match=r"in none of these places: .*; found: .*--allow-outside accepts it"):
        read(written(image_set("x.jpg")))
    monkeypatch.setenv(OUTSIDE_VARIABLE, "1")
    _, examined = read(written(image_set(*names)))
    assert reported(examined) == {"image file missing": 2}
    monkeypatch.delenv(OUTSIDE_VARIABLE)
    images.rename(tmp_path / "pictures")
    images.symlink_to(tmp_path / "pictures")
    assert reported(read(written(BASE))[1]) == {}
