"""Formats on disk: model folders, configs, weight files, model cards, checkpoints."""
