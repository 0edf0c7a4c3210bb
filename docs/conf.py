"""Settings of the documentation site, which `make docs` builds into build/docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import vaezoo

project = "vaezoo"
author = "The vaezoo authors"
copyright = "The vaezoo authors"
release = version = vaezoo.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "contents",
    "inventories",
    "generated_pages",
    "markdown_docstrings",
    "mathml",
    "notebooks",
    "references",
]
exclude_patterns = ["extensions", "inventories", "space"]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"vaezoo {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "https://github.com/vaezoo/vaezoo/",
    "source_branch": "main",
    "source_directory": "docs/",
}

nitpicky = True
# What annotations contain beside names with a page: numbers of ranges, texts of literals, unpacked shapes, aliases.
nitpick_ignore_regex = [("py:class", r"[\d.e+-]+|'[\w-]*'|\*\w+|tuple\[str|msgspec\.Meta|Context|Named|Rate")]
intersphinx_timeout = 5
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 300  # seconds of a cell, on a busy machine too
nb_output_stderr = "remove"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
copybutton_prompt_text = "$ "
