"""The line that describes a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from torch import nn

from vaezoo.core.weights import weights_digest
from vaezoo.errors import printable

if TYPE_CHECKING:
    from vaezoo.core.model import VAE


FIGURES = ("bound", "distortion", "rate", "log_evidence")


class Described(Protocol):
    """What `headline` reads of a model."""

    shape: tuple[int, ...] | None
    latent: tuple[int, ...] | None
    context: int
    config: Mapping[str, object] | None
    figures: Mapping[str, object] | None


def description(model: Described, parts: Sequence[str]) -> str:
    """Returns the headline, the class and the size of each part, and the figures of the weights if they are known."""
    lines = [headline(model)]
    for name in parts:
        part = cast(nn.Module, model).get_submodule(name)
        count = sum(each.numel() for each in part.parameters())
        lines.append(f"  {name}: {type(part).__name__}" + (f", {count:,} parameters" if count else ""))
    if model.config is not None and model.figures is not None:
        lines.append(f"  {figures_text(model, model.figures)}")
    return "\n".join(lines)


def figures_text(model: Described, figures: Mapping[str, object]) -> str:
    """Returns the figures that were stored with the weights, and whether the weights are still these."""
    means = {key: each["mean"] for key, each in figures.items() if isinstance(each, Mapping) and "mean" in each}
    shown = [f"{key.replace('_', '-')} {means[key]:.2f}" for key in FIGURES if isinstance(means.get(key), float)]
    shown = [f"{', '.join(shown)} nats"] if shown else []
    shown += [f"PSNR {psnr:.2f} dB"] if isinstance(psnr := figures.get("psnr"), float) else []
    same = figures.get("weights") == weights_digest(cast("VAE", model))
    of = "figures" if same else "figures before the weights were changed"
    data = printable(f"{figures.get('data')}, {figures.get('split')}", 100)
    return f"{of} ({data}): {', '.join(shown) or 'none'}"


def headline(model: Described) -> str:
    """Returns "beta-vae(beta=4.0): (1, 28, 28) → 10 latents, 961,604 parameters"."""
    parameters = sum(each.numel() for each in cast(nn.Module, model).parameters())
    name = options_text(model.config) if model.config else type(model).__name__
    context = f" with a context of {model.context}" if model.context else ""
    codes = codebook_numbers(cast(nn.Module, model))
    beside = f" and {codes:,} numbers in codebooks" if codes else ""
    return f"{name}: {model.shape or 'any'}{context} → {size_text(model.latent)}, {parameters:,} parameters{beside}"


def codebook_numbers(model: nn.Module) -> int:
    """Returns the number of elements of codebooks that are buffers: moving averages, which no gradient trains."""
    return sum(each.numel() for name, each in model.named_buffers() if name.rpartition(".")[2] == "codebook")


def size_text(latent: Sequence[int] | None) -> str:
    """Returns "10 latents", "(32, 7, 7) latents" or "any latents"."""
    if latent is None:
        return "any latents"
    return f"{latent[0] if len(latent) == 1 else tuple(latent)} latents"


def options_text(config: Mapping[str, object]) -> str:
    """Returns "beta-vae(beta=4.0)" for a config; an option name that two variants have is written in full."""
    options = cast(Mapping[str, object], config["options"])
    keys = [key.rpartition(".")[2] for key in options]
    names = [short if keys.count(short) == 1 else key for key, short in zip(options, keys, strict=True)]
    given = ", ".join(f"{name}={value!r}" for name, value in zip(names, options.values(), strict=True))
    return f"{config['variant']}({given})" if given else str(config["variant"])


#: methods that models of other libraries have -> what takes their place
ELSEWHERE = {
    **dict.fromkeys(("save", "save_pretrained"), "vaezoo.save(model, FOLDER)"),
    **dict.fromkeys(("load", "from_pretrained", "load_weights", "load_from_checkpoint"), "vaezoo.load(NAME)"),
    **dict.fromkeys(("fit", "train_step", "training_step"), "vaezoo.train(RECIPE, data=…)"),
    **dict.fromkeys(("push_to_hub", "push"), "vaezoo.push(…)"),
    **dict.fromkeys(("generate", "sample_prior"), "model.sample(n)"),
    **dict.fromkeys(("predict", "reconstruction"), "model.reconstruct(x)"),
    **dict.fromkeys(("loss", "loss_function", "elbo", "kl", "kl_divergence"), "model(x), which returns an ELBO"),
    **dict.fromkeys(("latent_dim", "latent_size", "z_dim"), "model.latent"),
    **dict.fromkeys(("to_onnx", "export"), "vaezoo.export(model, FOLDER)"),
    "summary": "print(model)",
    **dict.fromkeys(("evaluate", "score", "test"), "vaezoo.evaluate(model, data)"),
}


def elsewhere(name: str) -> str:
    """Returns a hint for an attribute that models of other libraries have, or an empty string."""
    return f" Use {ELSEWHERE[name]}." if name in ELSEWHERE else ""
