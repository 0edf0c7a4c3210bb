"""Downloading, verifying and caching the files of data sets."""
