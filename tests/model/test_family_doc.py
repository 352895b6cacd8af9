"""docs/families.md has the table that the matrix makes, and names what the matrix treats otherwise."""

import re
from itertools import groupby

from families import OPTIONS, YAMLS, blocks, scales, since, task
from support import OLDEST, ROOT
from test_family_matrix import LARGE

TEXT = (ROOT / "docs/families.md").read_text()


def family(name):
    if "world" in name:
        return "YOLO-World"
    folder = YAMLS[name].parent.name
    return "YOLOE" if name.startswith("yoloe") else "RT-DETR" if "rtdetr" in name else f"YOLO{folder}"


def order(name):
    """Families by age, then as the table groups them."""
    number = re.search(r"\d+", family(name))
    return (int(number[0]) if number else 100, *group(name))


def group(name):
    return family(name), task(name), "yes" if since(name) == OLDEST else f"from {since(name)}"


def table():
    titles = ["family", "task", "YAMLs", "scales", "blocks with attention inside", f"Ultralytics {OLDEST}"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for (name, kind, version), members in groupby(sorted(YAMLS, key=order), key=group):
        names = list(members)
        inside = sorted({block for member in names for block in blocks(member)})
        letters = sorted({letter for member in names for letter in scales(member)}, key="nsmblx".find)
        cells = [name, kind, _code(names), " ".join(letters) or "–", _code(inside) or "none", version]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(names):
    return ", ".join(f"`{name}`" for name in names)


def test_table_is_the_matrix():
    found = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    assert found == table(), f"docs/families.md should have\n{table()}"


def test_exceptions_are_named():
    (large,) = re.findall(r"^These have over 15 million.*?:\s(.*?)\.$", TEXT, re.M | re.S)
    assert set(re.findall(r"`(\S+)`", large)) == LARGE
    for (name, layer), options in OPTIONS.items():
        reported = ", ".join(f"{key}: {value}" for key, value in options.items())
        assert f"{layer} inside the blocks of `{name}`" in TEXT.replace("\n", " ")
        assert f"`{{{reported}}}`" in TEXT
