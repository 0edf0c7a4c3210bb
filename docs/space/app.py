"""The page of `vaezoo explore` as a Hugging Face Space."""

from vaezoo.workflows.explorer_page import page, settings

page().launch(server_name="0.0.0.0", **settings())
