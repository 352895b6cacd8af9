"""Checks of what a row says."""


def check_ints(**numbers: object) -> None:
    """Raise a ValueError unless every number is an int above 0."""
    for name, number in numbers.items():
        if type(number) is not int or number < 1:
            raise ValueError(f"{name} has {number!r}, expected an int above 0")
