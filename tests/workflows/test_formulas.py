"""Formulas of docstrings as plain characters."""

import inspect

import pytest

from vaezoo.registry import variants
from vaezoo.workflows.building_blocks import KINDS, loaded, reflowed
from vaezoo.workflows.formulas import plain


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"$D \le D_{target}$, $x \ge 0$", "D ≤ D_target, x ≥ 0"),
        (r"$a \cdot b \times c \to \infty$", "a · b × c → ∞"),
        (r"$\mathrm{KL}(q \| p) + \mathbb{E}_q[\log p]$", "KL(q ‖ p) + E_q[log p]"),
        (r"$\log\sigma(x) - \log p$", "log σ(x) - log p"),
        (r"$\tfrac12 \|z\|^2$", "1/2 ‖z‖^2"),
        (r"$\frac{\|x - \mu(z)\|^2}{2 \sigma^2}$", "(‖x - μ(z)‖^2)/(2 σ^2)"),
        (r"$\lambda\,e^{\nu\,\overline{D - C}}$", "λ e^(ν mean(D - C))"),
        (r"$\textstyle\sum_{i=1}^N x_{i}, \hat x \in \{0, 1\}$", "Σ_(i=1)^N x_i, x̂ ∈ {0, 1}"),
        ("$$D + \\beta R, \\qquad\nC = 1$$", "    D + β R,\nC = 1"),
        ("costs $5, no formula", "costs $5, no formula"),
    ],
)
def test_commands_become_characters(latex: str, text: str) -> None:
    assert plain(latex) == text


def test_no_docstring_that_is_shown_keeps_a_command() -> None:
    entries = [each.builder for each in variants.available()[0].values()]
    entries += [entry for kind in KINDS for entry in loaded(kind)[0].values()]
    for entry in entries:
        shown = plain(reflowed(inspect.getdoc(entry) or ""))
        assert not {"$", "\\"} & set(shown), shown
