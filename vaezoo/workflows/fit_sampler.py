"""Ex-post samplers by name: fitting on a model's latents, saving beside the model, loading."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import (
    VAE,
    check_model,
    code_indices,
    differentiable,
    learning,
    public_name,
    sample_with_log_prob,
    seeded,
    weights_digest,
    whole_number,
)
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, VaezooError, shorten
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set
from vaezoo.recipe.overrides import split_override
from vaezoo.registry import options_of, parse_options, samplers
from vaezoo.samplers import LatentDensity, Sampler, refuse_conditional
from vaezoo.storage.checkpoint import Checkpoint, read_folder, write_folder
from vaezoo.storage.config import CONFIG
from vaezoo.storage.files import library_version
from vaezoo.storage.model_folder import read_model, save
from vaezoo.workflows.load import load, locate, own_folder
from vaezoo.workflows.measure import data_of
from vaezoo.workflows.run_folder import own_data

FORMAT, SAMPLERS_FOLDER, GROUP = 1, "samplers", "density"
FIELDS = {"format", "vaezoo", "sampler", "options", "latent", "fitted_on", "model"}


@learning
def fit_sampler(
    model: VAE, data: object, name: str, *, examples: int = 60_000, seed: int = 0, **options: object
) -> Sampler:
    """Returns a sampler that is fitted on the latents of a trained model: one draw of q(z|x) for each example.

    Args:
        model: with continuous latents and without a context; set to eval mode.
        data: the training data: a name (its training split), a tensor, or a `Dataset`; binarized once, as in training.
        name: of the sampler: "normal", "gaussian-mixture", or another registered name.
        examples: the largest number of examples, chosen by `seed`.
        seed: of all draws.
        **options: of the sampler, such as `components=10`.

    Raises:
        UnknownNameError: no such sampler; with the closest name.
        ConfigError: wrong options, a conditional model, or discrete codes.
        DataError, ShapeError, SupportError: see `vaezoo.evaluate`; or too few examples.
    """
    check_model(model)
    kind = samplers.get(name)
    chosen = parse_options(f"sampler {name}", options_of(kind), options)
    refuse_conditional(model)
    examples, seed = whole_number(examples, "examples", 1), whole_number(seed, "seed", 0)
    whole = test_set(model, data, split="train")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    part = whole.subset(order[:examples].sort().values)
    z = latents_of(model.eval(), part, seed)
    with seeded(seed):
        density = cast(LatentDensity, kind(tuple(z.shape[1:]), **chosen))
    density.fit(z.flatten(1), seed)
    facts: dict[str, object] = {"data": public_name(part.name), "examples": len(part), "seed": seed}
    return Sampler(model, density, name=name, options=chosen, fitted_on=facts)


@torch.no_grad()
def latents_of(model: VAE, data: Dataset, seed: int) -> Tensor:
    """Returns one draw of q(z|x) for each example, (N, *latent), float64, on the CPU.

    Raises:
        ConfigError: the latents are discrete codes.
    """
    found = []
    with seeded(seed):
        for x, c in batches(model, data):
            posterior = cast(Distribution, model.encoder(x, c))
            try:
                discrete = posterior.support is not None and posterior.support.is_discrete
            except NotImplementedError:
                discrete = False
            if discrete or code_indices(posterior) is not None:
                raise ConfigError(
                    "Got a model of discrete codes; expected continuous latents. Codes need a prior over their "
                    "indices: use model.sample(n), or train one with the variant code-prior."
                )
            found.append(sample_with_log_prob(posterior, 1)[0][0].double().cpu())
    return torch.cat(found)


def save_sampler(sampler: Sampler, folder: str | Path) -> Path:
    """Writes a sampler beside its model, into FOLDER/samplers/NAME, and returns that path.

    The model is saved too if the folder holds none.

    Raises:
        ConfigError: the folder holds another model, or this one was changed by hand.
        CheckpointError: disk full, no permission.
    """
    place = Path(folder)
    if not (place / CONFIG).is_file():
        save(sampler.model, place)
    elif weights_digest(read_model(place)) != weights_digest(sampler.model):
        raise ConfigError(f"{place} holds another model than the sampler's. Choose another folder.")
    state = {
        "format": FORMAT,
        "vaezoo": library_version(),
        "sampler": sampler.name,
        "options": sampler.options,
        "latent": list(sampler.density.latent),
        "fitted_on": sampler.fitted_on,
        "model": weights_digest(sampler.model),
    }
    target = place / SAMPLERS_FOLDER / sampler.name
    write_folder(target, Checkpoint(tensors={GROUP: sampler.density.state_dict()}, state=state))
    return target


def fit_and_save(
    name: str,
    sampler: str,
    options: Sequence[str] = (),
    *,
    data: str | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Fits a sampler on a model by name, saves it beside the model or both into `out`, and returns the path.

    Args:
        name: a name for `vaezoo.load`.
        sampler: its name.
        options: of the sampler, "key=value" each.
        data: the name of a data set; None for the model's training data.
        seed: of all draws.
        out: a folder; required for bundled models and those on the Hub.

    Raises:
        ConfigError: a malformed option, or no folder to save in; otherwise see `fit_sampler` and `save_sampler`.
    """
    if out is None and not ("/" in name and not name.startswith("hf:")):
        raise ConfigError(f"Got {shorten(name)}, which is not in a folder of yours; expected --out FOLDER (out=) too.")
    mistakes: list[str] = []
    given = dict(pair for pair in (split_override(each, mistakes) for each in options) if pair is not None)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    target = own_folder(name) if out is None else out
    model = load(name)
    source = data_of(model, own_data(name, data))
    fitted = fit_sampler(model, source, sampler, seed=seed, **given)  # type: ignore[arg-type]  # any option
    return save_sampler(fitted, target)


def saved_samplers(folder: Path) -> list[str]:
    """Returns the registered samplers that are saved beside a model."""
    return [name for name in samplers.names() if (folder / SAMPLERS_FOLDER / name).is_dir()]


@differentiable
def load_sampler(model: str | Path, name: str, *, device: str = "cpu") -> Sampler:
    """Returns a model with one of the samplers saved beside it; every byte of both is verified before it is used.

    Args:
        model: a model folder, or another name for `vaezoo.load`.
        name: of the sampler.
        device: see `vaezoo.load`.

    Raises:
        UnknownNameError: no such model, no such sampler, or none beside the model.
        CorruptWeightsError: bytes, names, shapes or hashes differ from the recorded ones, or the sampler was fitted on
            another model.
    """
    samplers.get(name)  # only a registered name becomes part of a path
    folder = locate(model)
    if not (folder / SAMPLERS_FOLDER / name).is_dir():
        hint = f"vaezoo.fit_sampler(model, data, {name!r}) fits one, vaezoo.save_sampler keeps it."
        raise UnknownNameError(f"sampler beside {folder.name}", name, saved_samplers(folder), hint)
    place = f"{folder.name}/{SAMPLERS_FOLDER}/{name}"
    saved = read_folder(folder / SAMPLERS_FOLDER / name, lambda state: limit_of(state, name, place))
    owner = load(model, device=device)
    density, options = rebuilt(saved, name, place)
    if saved.state["model"] != weights_digest(owner) or (owner.latent is not None and density.latent != owner.latent):
        raise CorruptWeightsError(f"The {name!r} beside {folder.name} was fitted on another model. Fit it again.")
    facts = cast("dict[str, object]", saved.state["fitted_on"])
    return Sampler(owner, density, name=name, options=options, fitted_on=facts)


def limit_of(state: Mapping[str, object], name: str, place: str) -> int:
    """Returns the most bytes in the tensors of a sampler with this state."""
    tensors = twin_of(state, name, place)[0].state_dict().values()
    return 2**16 + sum(1024 + int(tensor.nbytes) for tensor in tensors)


def twin_of(state: Mapping[str, object], name: str, place: str) -> tuple[LatentDensity, dict[str, object]]:
    """Returns a sampler's density, on the meta device, and its options.

    Raises:
        CorruptWeightsError: the state is not that of the sampler.
    """
    latent, options = state.get("latent"), state.get("options")
    sizes = latent if isinstance(latent, list) and all(type(size) is int and size > 0 for size in latent) else None
    known = set(state) == FIELDS and state["format"] == FORMAT and state["sampler"] == name
    if not known or not sizes or not isinstance(options, dict) or not isinstance(state["fitted_on"], dict):
        raise CorruptWeightsError(f"{place} is not a sampler {name!r} of format {FORMAT}. Fit it again.")
    kind = samplers.get(name)
    try:
        parsed = parse_options(f"sampler {name}", options_of(kind), options)
        with torch.device("meta"):
            return cast(LatentDensity, kind(tuple(sizes), **parsed)), parsed
    except VaezooError as error:
        raise CorruptWeightsError(f"{place} cannot be built: {error}") from None


def rebuilt(saved: Checkpoint, name: str, place: str) -> tuple[LatentDensity, dict[str, object]]:
    """Returns a sampler's density and options; raises CorruptWeightsError if state or tensors are not a sampler's."""
    tensors = saved.tensors.get(GROUP, {})
    twin, parsed = twin_of(saved.state, name, place)
    check_tensors(tensors, twin.state_dict(), place)
    with seeded(0):  # initial weights, which are replaced
        density = cast(LatentDensity, samplers.get(name)(twin.latent, **parsed))
    density.load_state_dict(dict(tensors))
    if not density.is_valid():
        raise CorruptWeightsError(f"{place} holds no distribution: its numbers are out of range. Fit it again.")
    return density.eval(), parsed


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], place: str) -> None:
    """Raises CorruptWeightsError unless names, shapes and types are the same and all values are finite."""
    shapes = ({key: (tuple(each.shape), each.dtype) for key, each in group.items()} for group in (found, wanted))
    if len({str(sorted(group.items(), key=str)) for group in shapes}) > 1:
        raise CorruptWeightsError(f"{place} does not hold the tensors of its options. Fit it again.")
    if not all(bool(torch.isfinite(each).all()) for each in found.values()):
        raise CorruptWeightsError(f"{place} holds NaN or infinite values. Fit it again.")
