"""Commands that draw pictures of models, and fit samplers."""

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
        Number of samples.
    c
        Class of a conditional model; all in turn by default.
    sampler
        "normal", "gaussian-mixture", … instead of the prior; fitted now unless it is saved with the model.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.samples(name, n, c, seed, out, sampler)}")


@app.command
def fit_sampler(
    name: str, sampler: str, *options: str, data: str | None = None, seed: int = 0, out: Out = None
) -> None:
    """Fit a sampler to a model's latents and save it with the model.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    sampler
        "normal", "gaussian-mixture", …
    options
        Options of the sampler as key=value: components=20.
    data
        Data set; the training data set by default.
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
        Number of images.
    data
        Data set; the training data set by default.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.reconstructions(name, n, data, out)}")


@app.command
def traverse(
    name: str, *, index: int = 0, dims: list[int] | None = None, data: str | None = None, out: Picture = PICTURES
) -> None:
    """Draw the effect of each latent on one test image.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    index
        Index of the test image.
    dims
        Indices of latents; the most active by default.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.traversal(name, index, dims, data, out)}")


@app.command
def interpolate(
    name: str, *, pairs: int = 6, steps: int = 10, data: str | None = None, out: Picture = PICTURES
) -> None:
    """Draw interpolations between the latents of test images.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    pairs
        Number of pairs of images.
    steps
        Images in a row.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.interpolation(name, pairs, steps, data, out)}")
