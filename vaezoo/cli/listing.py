"""Commands that list and describe models, recipes and everything registered, and download data sets."""

# ruff: noqa: D417  # parameters with a type such as `Json` are described there

from cyclopts import App

from vaezoo.cli.app import Csv, Json, app, console, print_records, print_tables

data_app = App(name="data", help="Data sets by name.")
app.command(data_app)


@app.command(name="list")
def list_(
    pattern: str = "*",
    *,
    variants: bool = False,
    recipes: bool = False,
    backbones: bool = False,
    likelihoods: bool = False,
    samplers: bool = False,
    data: bool = False,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """List pretrained models (default), or what else has a name: variants, recipes, and what models are made of.

    Args:
        pattern: Shell pattern for the names.
        variants: List the variants and their pretrained models; --json and --csv have all that is known of them.
        recipes: List the recipes of the package.
        backbones: List the networks and their options.
        likelihoods: List the distributions of x given z and their options.
        samplers: List the samplers that replace a prior after training, and their options.
        data: List the data sets.
    """
    from vaezoo.errors import ConfigError
    from vaezoo.workflows import listing

    given = {"variants": variants, "recipes": recipes, "backbones": backbones, "likelihoods": likelihoods}
    kinds = [kind for kind, asked in {**given, "samplers": samplers, "data": data}.items() if asked] or ["models"]
    if len(kinds) > 1:
        raise ConfigError(f"Got --{' and --'.join(kinds)}; expected one of them.")
    [kind] = kinds
    if not print_records(listing.RECORDS[kind](pattern) if json or csv else [], json=json, csv=csv):
        print_tables(listing.TABLES[kind](pattern))


@app.command
def show(name: str) -> None:
    """Describe a pretrained model, a variant, a recipe, a run, a backbone, a likelihood, a sampler or a data set.

    Args:
        name: Name, or folder of a run.
    """
    from vaezoo.workflows.listing import describe

    console().print(describe(name), markup=False)


@data_app.command(name="get")
def data_get(name: str, *, only: str = "", verbose: bool = False) -> None:
    """Download and verify a data set.

    Args:
        name: "mnist", "fashion-mnist" or "emoji".
        only: A part of the set, such as an artist of "emoji": "google", "twitter" or "fluent".
        verbose: Print the result of each source; otherwise only if all fail.
    """
    from vaezoo.data import download_dataset, load_dataset

    out, name = console(), f"{name}:{only}" if only else name
    paths = download_dataset(name, report=out.print if verbose else None)
    for path in paths:
        out.print(f"{path}  (SHA-256 verified)")
    if not paths:
        found = load_dataset(name)
        out.print(f"{name}: {len(found):,} training examples of shape {found.shape}")


@data_app.command(name="list")
def data_list() -> None:
    """List the names of data sets."""
    from vaezoo.data import datasets

    for name in [*datasets.names(), "folder:PATH", "torchvision:NAME"]:
        console().print(name)
