"""Folders in the layout of the package diffusers: image autoencoders are read as models, and models written as such.

Nothing of that package is imported or run: networks, names of tensors and settings are described here.
"""
