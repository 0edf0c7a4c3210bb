"""Commands that draw pictures of models, and fit samplers."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there
import sys
from pathlib import Path

from vaezoo.cli.app import PICTURES, Data, Model, Out, Picture, app, console


@app.command
def sample(
    name: Model,
    n: int = 64,
    *,
    c: str | None = None,
    sampler: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    data: Data = None,
    out: Picture = PICTURES,
) -> None:
    """Draw samples into a picture.

    Args:
        n: Number of samples.
        c: Class of a conditional model, its name or index; all in turn by default.
        sampler: "normal", "gaussian-mixture", … instead of the prior; fitted now unless it is saved with the
            model.
        temperature: Below 1, samples of the prior are more typical and less varied.
        top_k: Draw each code among so many of the most probable ones, with a learned prior over codes.
        top_p: Draw each code among the most probable ones of this probability in all.
    """
    from vaezoo.core import SampleOptions
    from vaezoo.workflows import draw as drawings

    options = SampleOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    console().print(f"Wrote {drawings.samples(name, n, c, seed, out, sampler, data, **options)}")


@app.command
def fit_sampler(name: Model, sampler: str, *options: str, data: Data = None, seed: int = 0, out: Out = None) -> None:
    """Fit a sampler to a model's latents and save it with the model.

    Args:
        sampler: "normal", "gaussian-mixture", …
        options: Options of the sampler as key=value: components=20.
        out: Folder for model and sampler; the model's own by default.
    """
    from vaezoo.workflows.fit_sampler import fit_and_save

    console().print(f"Wrote {fit_and_save(name, sampler, options, data=data, seed=seed, out=out)}")


@app.command
def reconstruct(
    name: Model,
    n: int = 16,
    *,
    index: list[int] | None = None,
    seed: int = 0,
    data: Data = None,
    out: Picture = PICTURES,
) -> None:
    """Draw test images above their reconstructions.

    Args:
        n: Number of images.
        index: Numbers of test images, instead of chosen ones: --index 3 --index 8.
        seed: Seed of the choice of images.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.reconstructions(name, n, data, out, indices=index, seed=seed)}")


@app.command
def traverse(
    name: Model,
    *,
    index: int | None = None,
    seed: int = 0,
    dims: list[int] | None = None,
    data: Data = None,
    out: Picture = PICTURES,
) -> None:
    """Draw the effect of each latent on one test image.

    Args:
        index: Number of the test image, instead of a chosen one.
        seed: Seed of the choice of the image.
        dims: Indices of latents; the most active by default.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.traversal(name, index, dims, data, out, seed=seed)}")


@app.command
def interpolate(
    name: Model, *, pairs: int = 6, steps: int = 10, seed: int = 0, data: Data = None, out: Picture = PICTURES
) -> None:
    """Draw interpolations between the latents of test images.

    Args:
        pairs: Number of pairs of images.
        steps: Images in a row.
        seed: Seed of the choice of images.
    """
    from vaezoo.workflows import draw as drawings

    console().print(f"Wrote {drawings.interpolation(name, pairs, steps, data, out, seed=seed)}")


@app.command
def gallery(*names: str, out: Path = Path("gallery")) -> None:
    """Draw reconstructions, samples, interpolations, traversals and maps of models, and all models together.

    Args:
        names: Pretrained models or model folders; all bundled ones by default.
        out: Folder for the pictures and an index.md that shows them.
    """
    from vaezoo.workflows.gallery import gallery as run

    console().print(f"Wrote {run(names, out, lambda name: print(f'… {name}', file=sys.stderr))}")


@app.command
def explore(*names: str, port: int | None = None, browser: bool = True) -> None:
    """Explore models in a browser: reconstruct, move latents, interpolate, sample. Serves on 127.0.0.1 only.

    Args:
        names: Pretrained models or model folders; all bundled ones by default.
        port: Port of the page; the first free one from 7860 by default.
        browser: Open the page in a browser.
    """
    from vaezoo.workflows.explorer_page import serve

    serve(names, port=port, browser=browser)
