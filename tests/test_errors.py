"""What the command line prints of a mistake."""

from yolo_attn.errors import LONGEST_LINE, UserError


def test_a_line_has_an_end_whatever_it_quotes():
    line = str(UserError(f"a.yaml: found {'x' * 10**6}, expected a number"))
    assert len(line) <= LONGEST_LINE + 3
    assert line.startswith("a.yaml: found x")
    assert line.endswith("x, expected a number")
