"""The VAE with an increasing capacity."""

from vaezoo.core import VAE
from vaezoo.objectives import Warmup, WeightedObjective
from vaezoo.registry import Architecture, Steps, Weight, register


@register("annealed-vae", changes="objective", example={"gamma": 10.0, "capacity": 12.0, "capacity_steps": 200})
def annealed_vae(
    base: VAE,
    architecture: Architecture,
    *,
    gamma: Weight = 1000.0,
    capacity: Weight = 25.0,
    capacity_steps: Steps = 100_000,
) -> VAE:
    r"""Minimizes distortion plus the deviation of the rate from a capacity that increases during training.

    $$D + \gamma\,|R - C(t)|, \qquad C(t) = C_{max} \min(1, t / T)$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, weight of the deviation from the capacity; 1000 in the paper.
        capacity: $C_{max} \ge 0$, nats per example; 25 in the paper.
        capacity_steps: $T \ge 1$, steps until the capacity is reached; 100,000 in the paper.

    The rate is in closed form. If it is sampled, as in `vade+annealed-vae`, the deviation of one draw is too large in
    the mean, by up to the standard deviation of the draw. The deviation is that of each example, as in the equation of
    the paper; widely copied code uses the mean over the batch. Use it to choose the rate itself, with factors that are
    learned one after the other.

    See also: `beta-vae`, which weights the rate; warm-up, which increases that weight; `geco-vae`, which fixes the
    distortion.

    References: Burgess et al. (2018), https://arxiv.org/abs/1804.03599
    """
    objective = WeightedObjective(rate=gamma, capacity=Warmup(capacity, capacity_steps))
    return base.replace(objective=objective)
