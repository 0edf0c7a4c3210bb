"""Commands that list models, variants and recipes and show one of them."""

from __future__ import annotations

from vaezoo.cli.app import app, console, print_table


@app.command(name="list")
def list_(pattern: str = "*", *, variants: bool = False, recipes: bool = False) -> None:
    """List pretrained models (default), variants or recipes.

    Parameters
    ----------
    pattern
        Shell pattern that names must match.
    variants
        List the variants: what each changes, its rate, options, paper, and which models have weights.
    recipes
        List the recipes that come with the package.
    """
    from vaezoo.workflows import listing as tables

    table = tables.variants if variants else tables.recipes if recipes else tables.models
    headings, rows = table(pattern)
    print_table(headings, rows)


@app.command
def show(name: str) -> None:
    """Show what is known of a pretrained model, a variant or a recipe.

    Parameters
    ----------
    name
        Of a pretrained model, a variant, or a recipe.
    """
    from vaezoo.workflows.listing import describe

    console().print(describe(name), markup=False)
