"""Links: names of variants and models to their pages, Python names to the API, files outside docs/ to GitHub."""

import os
import re
from pydoc import locate

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from vaezoo.registry import list_variants
from vaezoo.zoo.index import list_models

REPOSITORY = "https://github.com/vaezoo/vaezoo/blob/main"
DOCUMENTED = ("class", "exception", "function")
FIGURE = 32  # characters of a cell that is a figure; spaces in it do not end a line
LINK = re.compile(r"\]\((\.\./[^)\s#]*)")


def to_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Replaces relative links that leave docs/ by addresses in the repository."""
    here = os.path.dirname(f"docs/{name}")

    def address(found: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(here, found[1])).replace(os.sep, "/")
        return found[0] if target.startswith("docs/") else f"]({REPOSITORY}/{target}"

    source[0] = LINK.sub(address, source[0])


def pages_of_names() -> dict[str, str]:
    """Returns name -> page of all variants and pretrained models."""
    variants = {name: f"/reference/variants/{name}" for name in list_variants()}
    return variants | {name: f"/reference/models/{name}" for name in list_models()}


def link_names(app: Sphinx, tree: nodes.document) -> None:
    """Links names that are code in a text, or the whole of a table's cell, to their pages."""
    pages, own = pages_of_names(), f"/{app.env.docname}"
    for code in [*tree.findall(nodes.literal)]:
        page = pages.get(code.astext())
        inside = code.parent
        if page and page != own and not isinstance(inside, nodes.reference | nodes.title | pending_xref):
            inside.replace(code, link_to(page, code, app.env.docname))
    for entry in [*tree.findall(nodes.entry)]:
        texts = [each for each in entry.findall(nodes.Text) if isinstance(each.parent, nodes.paragraph)]
        for text in [each for each in texts if "±" in each and len(each) < FIGURE]:
            text.parent.replace(text, nodes.Text(text.astext().replace(" ", "\u00a0")))
        if len(texts) == 1 and all(each in pages for each in texts[0].astext().split(", ")):
            texts[0].parent.replace(texts[0], listed(texts[0].astext().split(", "), pages, app.env.docname))


def listed(names: list[str], pages: dict[str, str], here: str) -> list[nodes.Node]:
    """Returns the links of several names, with commas."""
    found: list[nodes.Node] = []
    for name in names:
        found += [nodes.Text(", ")] if found else []
        found.append(link_to(pages[name], nodes.inline("", name, classes=["name"]), here))
    return found


def link_to(page: str, content: nodes.Element, here: str) -> pending_xref:
    """Returns a reference to a page, which Sphinx resolves."""
    facts = {"refdomain": "std", "reftype": "doc", "reftarget": page, "refexplicit": True, "refwarn": True}
    return pending_xref("", content.deepcopy(), refdoc=here, **facts)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Returns the link of a class or function of vaezoo that is written without, or with another, module."""
    if node.get("refdomain") != "py" or node["reftarget"].startswith("torch."):
        return None
    name = node["reftarget"].rpartition(".")[2]
    domain = env.domains["py"]
    known = [
        full
        for full, entry in domain.objects.items()
        if full.startswith("vaezoo.") and full.rpartition(".")[2] == name and entry.objtype in DOCUMENTED
    ]
    if not known:  # a name of the package without a page of its own stays text; one that does not exist is a warning
        return content if locate(node["reftarget"]) is not None else None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", min(known, key=len), node, content)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("source-read", to_repository)
    app.connect("doctree-read", link_names)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
