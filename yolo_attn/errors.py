"""The one exception that the command line turns into a line of text and exit code 2."""


class UserError(Exception):
    """A mistake of the user's, told in one line: what was found, where, and what would be right."""
