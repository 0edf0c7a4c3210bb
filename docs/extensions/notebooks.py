"""Runs pages as notebooks: their Python blocks become cells, whose outputs the site shows."""

from sphinx.application import Sphinx

PAGES = ("tutorials/quickstart", "tutorials/tutorial")
FRONT = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""
# The value of a cell is shown as a picture if it is the path of one, and as its shape if it is a tensor.
SETUP = """```{code-cell} python
:tags: [remove-cell]
from pathlib import PosixPath, WindowsPath

import torch

shown = get_ipython().display_formatter.formatters
for kind in (PosixPath, WindowsPath):
    shown["image/png"].for_type(kind, lambda path: path.read_bytes() if path.suffix == ".png" else None)
shown["text/plain"].for_type(torch.Tensor, lambda x, printer, _: printer.text(f"Tensor of shape {tuple(x.shape)}"))
torch.set_num_threads(1)
```
"""


def run(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes a notebook of a page of `PAGES`."""
    if name in PAGES:
        title, _, rest = source[0].partition("\n")
        cells = rest.replace("```python\n", "```{code-cell} python\n")
        source[0] = "\n".join([FRONT, title, SETUP, cells])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("source-read", run)
    return {"parallel_read_safe": True}
