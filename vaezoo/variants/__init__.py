"""The variants: one name, one file, one builder `(base, architecture, *, hyperparameters) -> VAE`; found, not listed."""
