"""Data sets that are read from disk batch by batch."""
