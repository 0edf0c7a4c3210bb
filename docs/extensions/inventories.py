"""Names of the documentation of Python, torch and numpy, from their inventories on the Web or from local lists.

`docs/inventories/NAME.txt` lists the names in use, "ROLE NAME ADDRESS" a line. They are taken without a network,
and for names that an inventory on the Web does not have, such as `torch.nn.modules.module.Module`.
"""

import zlib
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

ADDRESSES = {
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "numpy": "https://numpy.org/doc/stable/",
}
HEAD = "# Sphinx inventory version 2\n# Project: {}\n# Version: \n# The rest of this file is compressed using zlib.\n"


def rows_of(folder: Path, name: str) -> list[list[str]]:
    """Returns [role, name, address] of each line of a list."""
    lines = (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def set_mapping(app: Sphinx, config: Config) -> None:
    """Sets `intersphinx_mapping`: for each project the inventory on the Web, or without a network the local list."""
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    config.intersphinx_mapping, app.local_addresses = {}, {}
    for project, address in ADDRESSES.items():
        rows = rows_of(Path(app.confdir) / "inventories", project)
        lines = "".join(f"{name} {role} 1 {place} -\n" for role, name, place in rows)
        file = folder / f"{project}.inv"
        file.write_bytes(HEAD.format(project).encode() + zlib.compress(lines.encode()))
        config.intersphinx_mapping[project] = (address, (None, str(file)))
        app.local_addresses |= {name: address + place for _, name, place in rows}


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Returns the link of a name in a local list."""
    address = app.local_addresses.get(node["reftarget"])
    return address and nodes.reference("", "", content, internal=False, refuri=address)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension: before intersphinx reads its setting, after it has looked up a name."""
    app.connect("config-inited", set_mapping, priority=100)
    app.connect("missing-reference", resolve, priority=900)
    return {"parallel_read_safe": True}
