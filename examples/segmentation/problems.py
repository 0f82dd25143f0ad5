"""The error that says what is wrong with files."""


class BadData(ValueError):
    """Something is wrong with the files. The message names the file."""
