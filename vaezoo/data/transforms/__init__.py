"""Binarization, fixed noise, padding, and resizing of images."""
