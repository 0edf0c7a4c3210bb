"""Ex-post samplers by name: fitted on a model's latents, saved beside the model, and loaded again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, code_indices, sample_with_log_prob, seeded
from vaezoo.data import Dataset, binarize_fixed
from vaezoo.data.dataset import add_to_digest
from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, VaezooError, shorten
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.report import test_set
from vaezoo.recipe.overrides import split_override
from vaezoo.registry import options_of, parse_options, samplers
from vaezoo.samplers import LatentDensity, Sampler, refuse_conditional
from vaezoo.storage.checkpoint import Checkpoint, read_folder, write_folder
from vaezoo.storage.config import CONFIG
from vaezoo.storage.files import library_version
from vaezoo.storage.model_folder import published_state, read_model, save
from vaezoo.workflows.load import load, locate
from vaezoo.workflows.measure import data_of

__all__ = ["fit_and_save", "fit_sampler", "load_sampler", "save_sampler", "saved_samplers"]

FORMAT, SAMPLERS_FOLDER, GROUP = 1, "samplers", "density"
FIELDS = {"format", "vaezoo", "sampler", "options", "latent", "fitted_on", "model"}


def fit_sampler(
    model: VAE, data: object, name: str, *, examples: int = 60_000, seed: int = 0, **options: object
) -> Sampler:
    """Returns a sampler that is fitted on the latents of a trained model: one draw of q(z|x) for each example.

    Args:
        model: of continuous latents, without a context; put into eval mode here.
        data: what it was trained on: a name (its training split), a tensor, or a `Dataset`. Binarized as in training,
            once.
        name: of the sampler: "normal", "gaussian-mixture", or another that is registered.
        examples: how many at most, chosen by `seed`.
        seed: of everything that is drawn.
        **options: the sampler's own, such as `components=10`.

    Raises:
        UnknownNameError: there is no such sampler, with the closest name.
        ConfigError: wrong options; a conditional model; one of discrete codes.
        DataError, ShapeError, SupportError: see `vaezoo.evaluate`; or there are too few examples.
    """
    kind = samplers.get(name)
    chosen = parse_options(f"sampler {name}", options_of(kind), options)
    refuse_conditional(model)
    if examples < 1 or not 0 <= seed < 2**63:
        raise ConfigError(f"Got examples = {examples}, seed = {shorten(seed)}; expected at least 1, and 0 to 2⁶³ - 1.")
    whole = test_set(model, data, split="train")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    part = whole.subset(order[:examples].sort().values)
    z = latents_of(model.eval(), binarize_fixed(part, seed) if part.binarization == "dynamic" else part, seed)
    with seeded(seed, torch.device("cpu")):
        density = cast(LatentDensity, kind(tuple(z.shape[1:]), **chosen))
    density.fit(z.flatten(1), seed)
    facts: dict[str, object] = {"data": part.name, "examples": len(part), "seed": seed}
    return Sampler(model, density, name=name, options=chosen, fitted_on=facts)


@torch.no_grad()
def latents_of(model: VAE, data: Dataset, seed: int) -> Tensor:
    """Returns one draw of q(z|x) for each example, (N, *latent), float64, on the CPU.

    Raises:
        ConfigError: the latents are discrete codes.
    """
    found = []
    with seeded(seed, next(model.parameters()).device):
        for x, c in batches(model, data):
            posterior = cast(Distribution, model.encoder(x, c))
            refuse_codes(posterior)
            found.append(sample_with_log_prob(posterior, 1)[0][0].double().cpu())
    return torch.cat(found)


def refuse_codes(posterior: Distribution) -> None:
    """Raises ConfigError for a posterior over discrete codes."""
    try:
        support = posterior.support
    except NotImplementedError:
        support = None
    if code_indices(posterior) is not None or getattr(support, "is_discrete", False):
        raise ConfigError(
            "Got a model of discrete codes; expected continuous latents. Codes need a prior over their indices, which "
            "is a variant's own: model.sample(n)."
        )


def save_sampler(sampler: Sampler, folder: str | Path) -> Path:
    """Writes a sampler beside its model, into FOLDER/samplers/NAME, and returns that path.

    The folder is that of the model; where it holds none, the model is saved there too.

    Raises:
        ConfigError: another model is in the folder, or this one was changed by hand.
        CheckpointError: disk full, no permission.
    """
    place = Path(folder)
    if not (place / CONFIG).is_file():
        save(sampler.model, place)
    elif digest_of(read_model(place)) != digest_of(sampler.model):
        raise ConfigError(f"{place} holds another model than that of the sampler. Choose another folder.")
    state = {
        "format": FORMAT,
        "vaezoo": library_version(),
        "sampler": sampler.name,
        "options": sampler.options,
        "latent": list(sampler.density.latent),
        "fitted_on": sampler.fitted_on,
        "model": digest_of(sampler.model),
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
    """Fits a sampler on a model by name and saves it beside the model, or both into `out`; returns where.

    Args:
        name: whatever `vaezoo.load` takes.
        sampler: its name.
        options: its own, "key=value" each.
        data: the one that the model was trained on where None.
        seed: of everything that is drawn.
        out: a folder; needed for models that are not in a folder of one's own.

    Raises:
        ConfigError: a malformed option, or no folder to save in; otherwise see `fit_sampler` and `save_sampler`.
    """
    if out is None and not ("/" in name and not name.startswith("hf:")):
        raise ConfigError(f"Got {shorten(name)}, which is in no folder of yours; expected --out FOLDER (out=) as well.")
    mistakes: list[str] = []
    given = dict(pair for pair in (split_override(each, mistakes) for each in options) if pair is not None)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    model = load(name)
    source = data_of(model, data)
    fitted = fit_sampler(model, source, sampler, seed=seed, **given)  # type: ignore[arg-type]  # any option
    return save_sampler(fitted, locate(name) if out is None else out)


def saved_samplers(folder: Path) -> list[str]:
    """Returns the names of the samplers beside a model that are registered here."""
    return [name for name in samplers.names() if (folder / SAMPLERS_FOLDER / name).is_dir()]


def load_sampler(model: str | Path, name: str, *, device: str = "cpu") -> Sampler:
    """Returns a model with one of the samplers beside it, every byte of both verified before it is used.

    Args:
        model: a model folder, or whatever else `vaezoo.load` takes.
        name: of the sampler.
        device: of the model.

    Raises:
        UnknownNameError: there is no such model, no such sampler, or none beside the model.
        CorruptWeightsError: bytes, names, shapes or digests are not the recorded ones; it was fitted on another model.
    """
    samplers.get(name)  # a name of ours, before it becomes part of a path
    folder = locate(model)
    if not (folder / SAMPLERS_FOLDER / name).is_dir():
        hint = f"vaezoo.fit_sampler(model, data, {name!r}) fits one, vaezoo.save_sampler keeps it."
        raise UnknownNameError(f"sampler beside {folder.name}", name, saved_samplers(folder), hint)
    saved = read_folder(folder / SAMPLERS_FOLDER / name)
    owner = load(model, device=device)
    density, options = rebuilt(saved, name, f"{folder.name}/{SAMPLERS_FOLDER}/{name}")
    if saved.state["model"] != digest_of(owner) or (owner.latent is not None and density.latent != owner.latent):
        raise CorruptWeightsError(f"The {name!r} beside {folder.name} was fitted on another model. Fit it again.")
    facts = cast("dict[str, object]", saved.state["fitted_on"])
    return Sampler(owner, density, name=name, options=options, fitted_on=facts)


def rebuilt(saved: Checkpoint, name: str, place: str) -> tuple[LatentDensity, dict[str, object]]:
    """Returns the density of a sampler's folder, and its options; raises CorruptWeightsError for what does not fit."""
    state, tensors = saved.state, saved.tensors.get(GROUP, {})
    latent, options = state.get("latent"), state.get("options")
    sizes = latent if isinstance(latent, list) and all(type(size) is int and size > 0 for size in latent) else None
    known = set(state) == FIELDS and state["format"] == FORMAT and state["sampler"] == name
    if not known or not sizes or not isinstance(options, dict) or not isinstance(state["fitted_on"], dict):
        raise CorruptWeightsError(f"{place} has not the state of a sampler {name!r} of format {FORMAT}. Fit it again.")
    kind = samplers.get(name)
    try:
        parsed = parse_options(f"sampler {name}", options_of(kind), options)
        with torch.device("meta"):
            twin = cast(LatentDensity, kind(tuple(sizes), **parsed))
    except VaezooError as error:
        raise CorruptWeightsError(f"{place} cannot be built: {error}") from None
    check_tensors(tensors, twin.state_dict(), place)
    with seeded(0, torch.device("cpu")):  # weights are drawn, to be replaced
        density = cast(LatentDensity, kind(tuple(sizes), **parsed))
    density.load_state_dict(dict(tensors))
    if not density.is_valid():
        raise CorruptWeightsError(f"{place} holds no distribution: its numbers are out of range. Fit it again.")
    return density.eval(), parsed


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], place: str) -> None:
    """Raises CorruptWeightsError unless names, shapes and types are the same and all values are finite."""
    shapes = ({key: (tuple(each.shape), each.dtype) for key, each in group.items()} for group in (found, wanted))
    if len({str(sorted(group.items(), key=str)) for group in shapes}) > 1:
        raise CorruptWeightsError(f"{place} does not hold the tensors that its options say. Fit it again.")
    if not all(bool(torch.isfinite(each).all()) for each in found.values()):
        raise CorruptWeightsError(f"{place} holds NaN or infinite values. Fit it again.")


def digest_of(model: VAE) -> str:
    """Returns the SHA-256 of what is published of a model: names, types, shapes and bytes of its tensors."""
    total = hashlib.sha256()
    add_to_digest(total, **dict(sorted(published_state(model).items())))
    return total.hexdigest()
