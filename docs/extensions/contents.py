"""Tables of contents: the links of an `index.md`, so that these pages are plain Markdown in the repository."""

import re

from sphinx.application import Sphinx

from vaezoo.workflows.site import highlights

LINK = re.compile(r"\]\(([\w-]+)\.md\)")
MORE = {
    "index": ["tutorials/index", "guides/index", "reference/index", "explanation/index"],
    "reference/index": ["commands", "api/index"],
    "reference/variants": ["variants/*"],
    "reference/models": ["models/*"],
}


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Adds the table of contents of a page, and the figures of the home page."""
    pages = [*dict.fromkeys(LINK.findall(source[0]))] if name.endswith("/index") else []
    pages += MORE.get(name, [])
    if pages and not name.startswith("reference/api"):
        listed = "\n".join(pages)
        source[0] += f"\n\n:::{{toctree}}\n:hidden:\n:glob:\n\n{listed}\n:::\n"
    if name == "index":
        source[0] = source[0].replace("<!-- highlights -->", highlights())


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True}
