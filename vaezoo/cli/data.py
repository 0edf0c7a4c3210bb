"""Commands that list and download data sets."""

from __future__ import annotations

from vaezoo.cli.app import console, data_app


@data_app.command(name="get")
def data_get(name: str, *, verbose: bool = False) -> None:
    """Download and verify a data set.

    Args:
        name: "mnist" or "fashion-mnist".
        verbose: Print the result of each source; otherwise only if all fail.
    """
    from vaezoo.data import download_dataset

    out = console()
    paths = download_dataset(name, report=out.print if verbose else None)
    for path in paths:
        out.print(f"{path}  (SHA-256 verified)")
    if not paths:
        out.print(f"{name}: no files to download")


@data_app.command(name="list")
def data_list() -> None:
    """List the names of data sets."""
    from vaezoo.data import datasets

    for name in [*datasets.names(), "folder:PATH", "torchvision:NAME"]:
        console().print(name)
