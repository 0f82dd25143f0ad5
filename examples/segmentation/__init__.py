"""What the example scripts are made of, most of it for `train.py`; one idea in each file."""
