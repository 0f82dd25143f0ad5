"""The error for files that cannot be used."""


class BadData(ValueError):
    """Something is wrong with the files. The message names the file."""
