"""The bundled weights, their index, and what is done with them."""
