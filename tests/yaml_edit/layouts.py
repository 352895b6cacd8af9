"""Model YAMLs written in many ways: what the tests of editing draw from."""

from hypothesis import strategies as st

NAMES = ("Conv", "C2f", "Concat", "SPPF", "C3k2", "nn.Upsample")
NUMBERS = st.integers(0, 30)


@st.composite
def sources(draw, index):
    """A `from` of row `index`: absolute and relative, alone or in a list."""
    one = st.just(-1) if index == 0 else st.one_of(st.integers(0, index - 1), st.integers(-index, -1))
    return draw(one if index == 0 else st.one_of(st.just(-1), one, st.lists(one, min_size=1, max_size=3)))


@st.composite
def comments(draw, index):
    right = st.sampled_from(
        [f" # {index}", f" # {index}, P3", f"  #{index} (P3/8-small)", f" # X3 ({index}), blocks.1"]
    )
    other = st.builds(" # {}-P1/2".format, NUMBERS)
    return draw(st.one_of(st.just(""), right, other, st.just(" # cat backbone P4"), st.just(" # 3x3, 5")))


@st.composite
def block_rows(draw, index, row, newline, indent):
    """A row as an item of a block list: on one line, over several, or in block style itself."""
    source, repeats, name, args = row
    pad = " " * len(indent)
    comment = draw(comments(index))
    style = draw(st.sampled_from(["flow", "flow", "lines", "block", "quoted"]))
    if style == "flow":
        return f"{indent}- [{source}, {repeats}, {name}, {args}]{comment}"
    if style == "quoted":
        return f"{indent}-   [ {source},{repeats} , '{name}', {args} ]{comment}"
    if style == "lines":
        return f"{indent}- [{source}, {repeats}, # not this{newline}{pad}   {name},{newline}{pad}   {args}]{comment}"
    lines = [f"{indent}- - {source}", f"{pad}  - {repeats}", f"{pad}  - {name}", f"{pad}  - {args}{comment}"]
    return newline.join(lines)


@st.composite
def models(draw):
    """Text and rows of a model; the text in any of the ways in which YAML may be written."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\n"]))
    backbone, head = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    names = [draw(st.sampled_from(NAMES)) for _ in range(backbone + head - 1)] + ["Detect"]
    args = [draw(st.sampled_from(["[64]", "[64, True]", "[ 64, 3, ]", "[None, 2, 'nearest']"])) for _ in names]
    rows = [[draw(sources(i)), draw(st.integers(1, 3)), *pair] for i, pair in enumerate(zip(names, args, strict=True))]
    sections = {}
    for section, start, end in (("backbone", 0, backbone), ("head", backbone, backbone + head)):
        indent = draw(st.sampled_from(["  ", "", "    "]))
        if draw(st.integers(0, 5)) == 0:
            joined = f",{newline} ".join("[" + ", ".join(map(str, rows[i])) + "]" for i in range(start, end))
            sections[section] = f"{section}: [{joined}]{draw(comments(end - 1))}"
        else:
            gap = [newline + draw(st.sampled_from(["", "", f"  # between{newline}", newline])) for _ in range(end)]
            lines = [draw(block_rows(i, rows[i], newline, indent)) + gap[i] for i in range(start, end)]
            sections[section] = f"{section}: # rows{newline}" + "".join(lines).removesuffix(newline)
    order = draw(st.permutations(["backbone", "head"]))
    parts = [draw(st.sampled_from(["", "# a model", "\ufeff# a model"])), "nc: 80 # 22"]
    parts += [sections[section] for section in order]
    return newline.join(parts) + draw(st.sampled_from(["", newline, 2 * newline, f"{newline}# end"])), rows
