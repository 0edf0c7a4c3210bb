"""Pictures of models, and samplers."""

from __future__ import annotations

from vaezoo.cli.app import PICTURES, Out, Picture, app, console


@app.command
def sample(
    name: str, n: int = 64, *, c: int | None = None, sampler: str | None = None, seed: int = 0, out: Picture = PICTURES
) -> None:
    """Draw samples into a picture.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    n
        How many.
    c
        Class of a conditional model; all in turn by default.
    sampler
        Instead of the prior: "normal", "gaussian-mixture", …; fitted now unless it is saved beside the model.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.samples(name, n, c, seed, out, sampler)}")


@app.command
def fit_sampler(
    name: str, sampler: str, *options: str, data: str | None = None, seed: int = 0, out: Out = None
) -> None:
    """Fit a sampler on a model's latents and keep it beside the model.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    sampler
        "normal", "gaussian-mixture", …
    options
        The sampler's own, as key=value: components=20.
    data
        Data set; the one it was trained on by default.
    out
        Folder for model and sampler; the model's own by default.
    """
    from vaezoo.workflows.fit_sampler import fit_and_save

    console().print(f"Wrote {fit_and_save(name, sampler, options, data=data, seed=seed, out=out)}")


@app.command
def reconstruct(name: str, n: int = 16, *, data: str | None = None, out: Picture = PICTURES) -> None:
    """Draw test images above their reconstructions.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    n
        How many images.
    data
        Data set; the one it was trained on by default.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.reconstructions(name, n, data, out)}")


@app.command
def traverse(
    name: str, *, index: int = 0, dims: list[int] | None = None, data: str | None = None, out: Picture = PICTURES
) -> None:
    """Draw what each latent changes, from one test image.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    index
        Which test image.
    dims
        Which latents; the most active by default.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.traversal(name, index, dims, data, out)}")


@app.command
def interpolate(
    name: str, *, pairs: int = 6, steps: int = 10, data: str | None = None, out: Picture = PICTURES
) -> None:
    """Draw the way from one test image to another through the latents.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    pairs
        How many pairs of images.
    steps
        Images a row.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.interpolation(name, pairs, steps, data, out)}")
