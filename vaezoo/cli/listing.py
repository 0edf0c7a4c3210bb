"""Commands that list and describe models, variants and recipes."""

from __future__ import annotations

from vaezoo.cli.app import app, console, print_table


@app.command(name="list")
def list_(pattern: str = "*", *, variants: bool = False, recipes: bool = False) -> None:
    """List pretrained models (default), variants or recipes.

    Args:
        pattern: Shell pattern for the names.
        variants: List the variants with their parts, rates, options, papers and pretrained models.
        recipes: List the recipes of the package.
    """
    from vaezoo.workflows import listing as tables

    table = tables.variants if variants else tables.recipes if recipes else tables.models
    headings, rows = table(pattern)
    print_table(headings, rows)


@app.command
def show(name: str) -> None:
    """Describe a pretrained model, a variant or a recipe.

    Args:
        name: Pretrained model, variant or recipe.
    """
    from vaezoo.workflows.listing import describe

    console().print(describe(name), markup=False)
