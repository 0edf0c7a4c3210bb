"""What a user asks for in one call: load, train, measure, compare, fit a sampler, draw, publish."""
