"""One file for each export format: the format `a-b` is the function `a_b` of `a_b.py`; see `Format`."""
