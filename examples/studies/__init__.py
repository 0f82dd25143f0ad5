"""Does RMI help? Losses compared on public data, with training, validation and test parts.

`python -m studies --help`, from the folder `examples`, says what can be run; README.md how.
"""
