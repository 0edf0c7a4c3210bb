"""The VAE with a capacity that grows."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import Warmup, WeightedObjective
from vaezoo.registry import Architecture, register


@register(
    "annealed-vae", changes="objective", year=2018, paper="Burgess et al.", url="https://arxiv.org/abs/1804.03599"
)
def annealed_vae(
    base: VAE,
    architecture: Architecture,
    *,
    gamma: Annotated[float, Meta(ge=0, le=1e6)] = 1000.0,
    capacity: Annotated[float, Meta(ge=0, le=1e6)] = 25.0,
    capacity_steps: Annotated[int, Meta(ge=1, le=10**9)] = 100_000,
) -> VAE:
    r"""Minimises $D + \gamma\,|R - C(t)|$: the rate is held at a capacity that grows while training.

    $$C(t) = C_{max} \min(1, t / T)$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, how hard the rate is held; 1000 in the paper.
        capacity: $C_{max} \ge 0$, in nats per example; 25 in the paper.
        capacity_steps: $T$, in how many steps it is reached; 100,000 in the paper.

    The rate is in closed form. It is held for each example, as in the paper's equation; widely copied code holds the
    mean over the batch. When to use it: to choose the rate itself, with factors that appear one after the other. It is
    confused with `beta-vae`, which prices the rate, with warm-up, which raises that price, and with `geco-vae`, which
    fixes the distortion.
    """
    objective = WeightedObjective(rate=gamma, capacity=Warmup(capacity, capacity_steps))
    return base.replace(objective=objective)
