"""The variants: one name, one file, one builder `(base, architecture, *, options) -> VAE`; found, not listed."""
