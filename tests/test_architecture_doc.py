"""docs/architecture.md names every room, and each file that it names is there, by a link."""

import re

from support import ROOT
from test_architecture import FLOORS

PAGE = ROOT / "docs/architecture.md"
LINK = re.compile(r"\[`?([^\]`]+)`?\]\(([^)]+)\)")


def test_every_link_leads_to_what_it_names():
    for name, target in LINK.findall(PAGE.read_text()):
        found = (PAGE.parent / target).resolve()
        assert found.is_file(), target
        assert f"{found.parent}/".endswith(f"/{name}") or str(found).endswith(f"/{name}"), (name, target)


def test_every_file_is_named_by_a_link():
    assert not re.findall(r"\w+\.(?:py|html)\b", LINK.sub("", PAGE.read_text()))


def test_every_room_is_named_in_the_table():
    table = PAGE.read_text().split("## Rooms")[1].split("\n## ")[0]
    named = {name.removesuffix("/").removesuffix(".py") for name, _ in LINK.findall(table)}
    assert {room.replace(".", "/") or "__init__" for floor in FLOORS for room in floor} <= named


def test_it_fits_one_page():
    assert len(PAGE.read_text().split()) < 1000
