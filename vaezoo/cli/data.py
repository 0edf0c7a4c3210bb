"""Commands that list and download data sets."""

from __future__ import annotations

from vaezoo.cli.app import console, data_app


@data_app.command(name="get")
def data_get(name: str) -> None:
    """Fetch and verify a data set.

    Parameters
    ----------
    name
        "mnist" or "fashion-mnist".
    """
    from vaezoo.data import download_dataset

    out = console()
    for path in download_dataset(name, report=out.print):
        out.print(f"{path}  (SHA-256 verified)")


@data_app.command(name="list")
def data_list() -> None:
    """List the data sets that have a name."""
    from vaezoo.data import datasets

    for name in [*datasets.names(), "folder:PATH", "torchvision:NAME"]:
        console().print(name)
