"""The parts of `train.py` and `predict.py`, one idea in each file."""
