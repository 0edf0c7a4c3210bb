"""Formulas as MathML, which browsers draw themselves: the pages need no script and no other host."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

TAG = re.compile(r"<math .*</math>", re.DOTALL)
# Browsers stretch a bar only with a font for formulas; the style sheet draws it as a border instead.
OVERLINE = re.compile(r'<mover>((?:(?!<mover>).)*?)<mo accent="true">&#x02015;</mo></mover>', re.DOTALL)


def mathml(formula: str, display: str) -> str:
    """Returns a formula of LaTeX as a MathML element, `display` "inline" or "block"."""
    try:
        found = TAG.search(convert(formula.replace(r"\arg\m", r"\mathrm{arg}\,\m"), display=display))
    except Exception as error:  # the package has no common base class of its errors
        raise ExtensionError(f"Got the formula {formula!r}, which latex2mathml cannot convert: {error}") from error
    if found is None or "\\" in re.sub(r"<annotation.*?</annotation>", "", found[0]):
        raise ExtensionError(f"Got the formula {formula!r}, of which latex2mathml leaves commands.")
    return OVERLINE.sub(r'<mrow class="overline">\1</mrow>', found[0])


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula in a line."""
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula on lines of its own."""
    writer.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer of formulas."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
