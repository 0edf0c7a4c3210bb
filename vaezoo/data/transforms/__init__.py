"""Binarization, fixed noise and padding."""
