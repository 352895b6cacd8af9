"""Files of strangers, put where the package writes."""

from pathlib import Path

OURS = ".yolo_attn-0123456789abcdef-abcdefg_.part"
"""A temporary name of the package's own."""


def plant(folder: Path, outside: Path) -> dict[Path, bytes | str]:
    """Put strangers' files into a folder that is there; returns what each holds, a link where it leads."""
    planted = {
        "film.mkv.part": b"film",
        ".hidden.part": b"hidden",
        ".last.pt.x1y2z3.part": b"like those of earlier releases",
        ".yolo_attn-notes.part": b"like ours",
        ".yolo_attn-0123456789abcdef-abcdefg_.part.txt": b"like ours",
        ".part/chapter.tex": b"chapter",
        "chapter1.part/page.tex": b"page",
        "thesis.txt": b"years of work",
        "below/" + OURS: b"not in a place of ours",
    }
    for name, content in planted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    outside.mkdir(exist_ok=True)
    (outside / "precious.txt").write_bytes(b"precious")
    for name, target in (
        ("link.part", outside),
        (OURS.replace("0", "f"), outside),
        ("a.link", outside / "precious.txt"),
    ):
        (folder / name).symlink_to(target)
    return strangers(folder, planted.keys() | {"link.part", OURS.replace("0", "f"), "a.link"}) | strangers(
        outside, {"precious.txt"}
    )


def strangers(folder, names):
    return {folder / name: content_of(folder / name) for name in names}


def content_of(file):
    return file.readlink() if file.is_symlink() else file.read_bytes()


def survive(planted):
    return {file: content_of(file) if file.exists() or file.is_symlink() else None for file in planted} == planted
