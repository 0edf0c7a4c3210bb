"""Commands for the Hub, for other runtimes and for weights of other projects."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from vaezoo.cli.app import Model, app, console, print_table

T = TypeVar("T")
Listed = Annotated[list[T] | None, Parameter(consume_multiple=True, negative=())]  # --decoder fc3 fc4


@app.command
def push(
    *names: str,
    owner: str,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    data_license: str | None = None,
    dataset: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> None:
    """Publish evaluated models on the Hugging Face Hub, as OWNER/NAME each.

    Args:
        names: Pretrained models or model folders.
        owner: Your name there, or an organization's.
        everything: All bundled models.
        license: Of the weights: an identifier of the Hub such as mit, apache-2.0, cc-by-4.0, or other.
        license_name: Short name of a license "other".
        license_link: Address of its text.
        data_license: License of the training data, in words; known for registered data sets.
        dataset: The training data on the Hub, as owner/name.
        private: Make new repositories private.
        revision: The branch.
        message: The first line of the commit.
        dry_run: Check everything, print the card and the list of files, and send nothing.
    """
    from vaezoo.storage.terms import Terms
    from vaezoo.workflows import publish as publishing

    terms = Terms(
        license=license, license_name=license_name, license_link=license_link, data_license=data_license,
        dataset=dataset,
    )  # fmt: skip
    for name in publishing.selected_models(names, everything):
        repository = f"{owner}/{Path(name).absolute().name}"
        if dry_run:
            console().print(str(publishing.preview(name, repository, terms=terms)))
            continue
        place = publishing.push(
            name, repository, **asdict(terms), private=private, revision=revision, commit_message=message
        )
        console().print(f"{name}: {place}")
    if license is None:
        console().print("The card states no license of the weights: --license mit, or another one, states it.")


@app.command
def pull(name: str, *, revision: str | None = None, to: Path | None = None) -> None:
    """Download a model from the Hugging Face Hub into the cache, and verify it.

    Args:
        name: Pretrained model, or hf:owner/name.
        revision: A branch, a tag or a commit.
        to: Folder to copy it to.
    """
    from vaezoo.workflows.load import pull

    console().print(f"{pull(name, revision=revision, to=to)}")


@app.command
def verify() -> None:
    """Read every byte of the bundled models and of those in the Hub's cache again; exit status 1 if any is damaged."""
    from vaezoo import hub

    console().print(f"{hub.verify(say=console().print)} models are whole.")


@app.command
def cache(*, remove: str | None = None) -> None:
    """List the models in the Hub's cache, or remove one.

    Args:
        remove: hf:owner/name, hf:owner/name@COMMIT or a pretrained model.
    """
    from vaezoo import hub

    if remove is not None:
        console().print(f"Freed {hub.remove(remove) / 1e6:.1f} MB.")
    rows = [(str(copy), f"{copy.size / 1e6:.1f} MB") for copy in hub.list_cached()]
    print_table(("model", "size"), rows)


@app.command
def convert(
    source: Path,
    *,
    to: Path,
    shape: Listed[int] = None,
    encoder: Listed[str] = None,
    mean: str | None = None,
    log_variance: str | None = None,
    log_scale: str | None = None,
    decoder: Listed[str] = None,
    activation: str | None = None,
    likelihood: str | None = None,
    scale: float | None = None,
) -> None:
    """Convert another project's weights into a model folder, exactly or not at all; none of its code is run.

    A pythae folder and a state dict of PyTorch's examples/vae are recognized; for any other VAE of fully connected
    layers, name the layers: --shape 1 28 28 --encoder fc1 --mean fc21 --log-variance fc22 --decoder fc3 fc4
    --activation relu --likelihood bernoulli.

    Args:
        source: State dict (.pt of torch.save, or .safetensors), or pythae folder.
        to: Folder to write, new or empty.
        shape: Of one x: 1 28 28.
        encoder: Hidden layers in order.
        mean: Layer of the posterior's mean.
        log_variance: Layer of log σ²; the same as --mean if one layer computes both.
        log_scale: Layer of log σ, instead.
        decoder: Hidden layers in order, the output layer last.
        activation: relu, tanh, silu, gelu, elu or leaky-relu.
        likelihood: bernoulli (the output goes through a sigmoid) or gaussian (it is the mean).
        scale: σ of gaussian; 1 by default.
    """
    from vaezoo.storage.conversion.convert import convert as run

    done = run(
        source,
        to,
        shape=shape,
        encoder=encoder or (),
        mean=mean,
        log_variance=log_variance,
        log_scale=log_scale,
        decoder=decoder or (),
        activation=activation,
        likelihood=likelihood,
        scale=scale,
    )
    console().print(str(done), markup=False)


@app.command
def export(name: Model, *, format: str = "onnx", out: Path, part: list[str] | None = None) -> None:
    """Write a model's encoder and decoder for another runtime, and compare them with the model.

    Args:
        format: onnx (needs vaezoo[onnx]), torch-export, or diffusers: a folder that the package diffusers loads.
        out: Folder to write, new or empty.
        part: encoder or decoder; both by default.
    """
    if format == "diffusers":
        export_folder(name, out, part)
        return
    from vaezoo.storage.export.programs import PARTS
    from vaezoo.workflows.export import export as run

    console().print(str(run(name, out, format=format, parts=part or PARTS)), markup=False)


def export_folder(name: str, out: Path, part: list[str] | None) -> None:
    """Writes a folder for diffusers, which holds both parts, and prints how it is loaded."""
    from vaezoo.errors import ConfigError
    from vaezoo.workflows.export_diffusers import export_diffusers

    if part:
        raise ConfigError(f"Got --part {' '.join(part)}; a folder for diffusers holds both parts. Leave it out.")
    console().print(f"Wrote {export_diffusers(name, out)}: from_pretrained of the class in its config.json loads it.")


@app.command
def features(file: Path) -> None:
    """Copy the weights of torchvision's vgg16 into the cache, for the option perceptual_network = "vgg16".

    Args:
        file: Your own file, such as vgg16-397923af.pth: a state dict, of which no code is run.
    """
    from vaezoo.storage.conversion.features import add_features

    console().print(f"{add_features(file)}")
