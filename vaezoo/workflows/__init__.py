"""High-level functions: load, train, measure, compare, fit a sampler, draw, publish."""
