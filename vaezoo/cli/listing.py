"""Commands that list and describe models, recipes and everything registered, and download data sets."""

# ruff: noqa: D417  # parameters with a type such as `Json` are described there

from typing import Literal

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
    datasets: bool = False,
    data: str | None = None,
    variant: str | None = None,
    sort: str | None = None,
    ascending: bool = False,
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
        datasets: List the data sets.
        data: Only models of this data set.
        variant: Only models of this variant.
        sort: Order of the models: name (default), size, or a metric such as log-evidence, the largest first.
        ascending: The smallest first.
    """
    from vaezoo.errors import ConfigError
    from vaezoo.workflows import listing

    given = {"variants": variants, "recipes": recipes, "backbones": backbones, "likelihoods": likelihoods}
    kinds = [kind for kind, asked in {**given, "samplers": samplers, "datasets": datasets}.items() if asked]
    if len(kinds) > 1:
        raise ConfigError(f"Got --{' and --'.join(kinds)}; expected one of them.")
    if kinds and (data or variant or sort or ascending):
        raise ConfigError(
            f"Got --{kinds[0]} with an option of the list of models; expected --data, --variant, --sort and "
            "--ascending without it. Leave one of them out."
        )
    if kinds:
        tables, records = listing.TABLES[kinds[0]], listing.RECORDS[kinds[0]]
        if not print_records(records(pattern) if json or csv else [], json=json, csv=csv):
            print_tables(tables(pattern))
        return
    chosen = listing.Selection(pattern=pattern, data=data, variant=variant, sort=sort or "name", ascending=ascending)
    if not print_records(listing.model_records(chosen) if json or csv else [], json=json, csv=csv):
        print_tables(listing.models(chosen))


@app.command
def show(name: str, *, json: Json = False) -> None:
    """Describe a pretrained model, a variant, a recipe, a run, a backbone, a likelihood, a sampler or a data set.

    Args:
        name: Name, or folder of a run.
    """
    from vaezoo.workflows.listing import describe, record_of
    from vaezoo.workflows.tables import json_text
    from vaezoo.zoo.index import bundled_models

    if json:
        print(json_text(record_of(name)))
        return
    out = console()
    out.print(describe(name), markup=False)
    if out.is_terminal and out.color_system is not None and name in bundled_models():
        from vaezoo.workflows.terminal import sample_strip

        out.print()
        out.print(sample_strip(name, out.width))


@app.command
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that completes commands and options in a shell.

    Args:
        shell: bash, zsh or fish.
    """
    print(app.generate_completion(shell=shell))


@app.command
def cite(name: str) -> None:
    """Print the BibTeX entries of the papers of a variant or a model.

    Args:
        name: Variant such as vamp-vae+iwae, pretrained model, or model folder.
    """
    from vaezoo.workflows.cite import cite as run

    print(run(name))


@app.command
def new(kind: Literal["variant", "recipe", "dataset"], name: str) -> None:
    """Write a variant, a recipe or a data set to start from, with a test that passes, into the current folder.

    Args:
        kind: What to write.
        name: Lower-case words joined by "-", such as my-vae; no file is overwritten.
    """
    from vaezoo.workflows.skeletons import new as run
    from vaezoo.workflows.skeletons import next_step

    files = run(kind, name)
    test = next(file for file in files if file.name.startswith("test_"))
    console().print(f"Wrote {', '.join(map(str, files))}. Test: python -m pytest {test}")
    console().print(next_step(kind, name))


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

    for name in [*datasets.names(), "folder:PATH", "table:FILE", "series:FILE", "torchvision:NAME"]:
        console().print(name)
