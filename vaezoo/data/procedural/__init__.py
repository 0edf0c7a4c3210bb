"""Data sets that are drawn by a program."""
