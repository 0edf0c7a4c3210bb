"""One module per data set: its name, in snake case, is the name of its function and of its file."""
