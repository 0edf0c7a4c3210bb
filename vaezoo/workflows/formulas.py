"""Formulas of docstrings, which are LaTeX between dollars, as plain characters for a terminal."""

import re
import unicodedata

SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π",
    "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "sum": "Σ", "prod": "Π", "int": "∫", "partial": "∂",
    "nabla": "∇", "infty": "∞", "ell": "l", "cdot": "·", "times": "×", "odot": "⊙", "pm": "±", "sqrt": "√", "le": "≤",
    "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "sim": "~", "propto": "∝", "ll": "≪",
    "gg": "≫", "in": "∈", "to": "→", "rightarrow": "→", "leftarrow": "←", "mapsto": "↦", "mid": "|", "top": "T",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "dots": "…", "ldots": "…", "cdots": "…", "quad": "  ",
    "qquad": "   ",
    **dict.fromkeys(("big", "Big", "bigg", "Bigg", "left", "right", "textstyle", "displaystyle"), ""),
}  # fmt: skip
MARKS = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "|": "‖", "{": "\0", "}": "\1"}  # after a backslash
ACCENTS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304"}  # combining characters
FORMULA = re.compile(r"(\$\$?)([^$]*)\1")
GROUP = r"(?:\{([^{}]*)\}|\s*(\w))"


def plain(text: str) -> str:
    """Returns text with its formulas in plain characters; those between two dollars are indented."""
    return FORMULA.sub(lambda found: ("    " if found[1] == "$$" else "") + plain_formula(found[2]), text)


def plain_formula(latex: str) -> str:
    r"""Returns a formula without commands, "1/2 ‖z‖^2" for `\tfrac12 \|z\|^2`; unknown commands become their names."""
    text = re.sub(r"\\([,;:] *|[ !|{}])", lambda found: MARKS[found[1][0]], latex)
    text = re.sub(
        r"\\(?:mathrm|mathcal|mathbb|mathbf|text)(?![a-zA-Z])" + GROUP, lambda found: found[1] or found[2], text
    )
    text = re.sub(r"\\([a-zA-Z]+)(?=([\w\\])?)", _command, text)
    before = ""
    while before != text:  # from the inner braces to the outer ones
        before = text
        text = re.sub(r"\\(hat|tilde|bar)" + GROUP, _accented, text)
        text = re.sub(r"([_^])\{([^{}]*)\}", lambda found: found[1] + _enclosed(found[2]), text)
        text = re.sub(r"\\frac" + GROUP * 2, _fraction, text)
        text = re.sub(r"\\overline\{([^{}]*)\}", r"mean(\1)", text)
    text = re.sub(r"[{}]", "", text).replace("\0", "{").replace("\1", "}")
    return re.sub(r"(?<=\S) {4,}", "   ", re.sub(r" +$", "", text, flags=re.MULTILINE))


def _command(found: re.Match[str]) -> str:
    """Returns the symbol of a command; the name of a function, with a space before its argument."""
    name = found[1].removeprefix("d").removeprefix("t") if found[1].endswith("frac") else found[1]
    if name in ("frac", "overline", *ACCENTS):
        return f"\\{name}"
    return SYMBOLS[name] if name in SYMBOLS else f"{name} " if found[2] else name


def _accented(found: re.Match[str]) -> str:
    letters = found[2] or found[3]
    return unicodedata.normalize("NFC", letters + ACCENTS[found[1]]) if len(letters) == 1 else f"{found[1]}({letters})"


def _fraction(found: re.Match[str]) -> str:
    upper, lower = found[1] or found[2], found[3] or found[4]
    return f"{_enclosed(upper)}/{_enclosed(lower)}"


def _enclosed(text: str) -> str:
    """Returns text in parentheses, unless it is one word."""
    return text if re.fullmatch(r"[\w,]*|.|-\d+", text) else f"({text})"
