"""Tables as lines of text."""

from yolo_attn.tables import aligned


def test_numbers_stand_on_the_right_whatever_their_sign_and_empty_cells_stay_empty():
    rows = [["name", "difference", "note"], ["a", "-1.25", ""], ["long name", "10", "−"], ["", "", "x"]]
    assert aligned(rows) == [
        "name       difference  note",
        "a               -1.25",
        "long name          10  −",
        "                       x",
    ]


def test_a_table_of_a_heading_alone():
    assert aligned([["split", "images"]]) == ["split  images"]
