"""Writes the pages of variants, pretrained models and commands before Sphinx reads the sources."""

from pathlib import Path

from sphinx.application import Sphinx

from vaezoo.cli import app as command_line
from vaezoo.workflows.site import write_pages


def write(app: Sphinx) -> None:
    """Writes the pages into the folder of the sources, where git ignores them."""
    source = Path(app.srcdir)
    write_pages(source / "reference")
    text = command_line.generate_docs(output_format="markdown")
    before, _, commands = text.partition("\n## Table of Contents\n")
    commands = commands.partition("**Commands**:")[2]
    page = source / "reference" / "commands.md"
    page.write_text(before.replace("# vaezoo\n", "# Commands\n", 1) + commands, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
