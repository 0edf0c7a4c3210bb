"""Readers of image folders, torchvision sets and pixels."""
