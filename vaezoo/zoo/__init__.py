"""The index of the published models, and the bundled weights."""
