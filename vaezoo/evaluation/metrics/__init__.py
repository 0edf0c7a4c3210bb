"""One module per metric; its name is the metric's name. Importing one imports no torch."""
