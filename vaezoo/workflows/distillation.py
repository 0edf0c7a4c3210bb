"""The teacher of a recipe: a trained model whose latents and images the recipe's model is trained to have."""

from vaezoo.core import VAE, as_part
from vaezoo.errors import ConfigError, shorten
from vaezoo.likelihoods import ScaledLikelihood, UnitLikelihood
from vaezoo.likelihoods.bernoulli import Bernoulli
from vaezoo.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaezoo.objectives import PenalizedObjective
from vaezoo.objectives.penalties.distillation import DistillationPenalty
from vaezoo.recipe import Teacher
from vaezoo.workflows.load import load

DISTILLATION = "distillation"  # name of the penalty


def distil(model: VAE, table: Teacher | None) -> None:
    """Adds the penalty of `[teacher]` to the objective of a model, see `DistillationPenalty`; None: no teacher.

    Raises:
        ConfigError: the teacher has other shapes than the model, or the model cannot be compared with it.
    """
    if table is None:
        return
    if not table.latents and not table.pixels:
        raise ConfigError("Got a teacher with latents = 0 and pixels = 0; expected a weight above 0.")
    teacher = load(table.name)
    if reason := mismatch(model, teacher, table):
        raise ConfigError(f"teacher.name = {shorten(table.name)} does not fit the recipe's model: {reason}.")
    objective = model.objective
    assert isinstance(objective, PenalizedObjective)
    teacher.requires_grad_(False)
    objective.add_penalty(DISTILLATION, 1.0, DistillationPenalty(teacher, table.latents, table.pixels))


def mismatch(model: VAE, teacher: VAE, table: Teacher) -> str:
    """Returns why a model cannot be trained to have the outputs of a teacher, and the remedy; "" if it can."""
    for name in ("shape", "latent", "context"):
        own, given = getattr(model, name), getattr(teacher, name)
        if own != given and (name != "latent" or table.latents):
            return f"its {name} is {shorten(given)}, that of the model {shorten(own)}; both have to be equal"
    if not isinstance(model.objective, PenalizedObjective):
        return f"{type(model.objective).__name__} has no penalties; use a variant such as kl-autoencoder, vae or ae"
    encoders = [as_part(each.encoder) for each in (model, teacher)]
    if table.latents and any(each.index_shape is not None or each.sections for each in encoders):
        return "codes have no distance; set teacher.latents = 0"
    own, given = (as_part(each.decoder).likelihood for each in (model, teacher))
    # Of independent pixels, log p of the teacher's means is the mean of log p over its images.
    probabilities = type(own) in (Bernoulli, ContinuousBernoulli) and isinstance(given, UnitLikelihood)
    if table.pixels and not (isinstance(own, ScaledLikelihood) or probabilities):
        return (
            f"its images have no density under {type(own).__name__}; use a gaussian or laplace likelihood, "
            "or set teacher.pixels = 0"
        )
    return ""
