"""The VAE with lookup-free quantization."""

from __future__ import annotations

from functools import partial
from typing import Annotated, cast

import torch
from msgspec import Meta
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaezoo.codes import CodeObjective, CodePoint, UniformCodePrior, code_defaults, commitment_of
from vaezoo.distributions import sum_event
from vaezoo.elbo import Inference, Model, Penalty
from vaezoo.errors import ShapeError
from vaezoo.implicit_codes import LatticeEncoder
from vaezoo.model import VAE
from vaezoo.registry import Architecture, register

BITS = 9  # numbers in a code unless `latent` says otherwise: 512 codes
MOST_BITS = 24


class SignEncoder(LatticeEncoder):
    """Takes each number's sign, -1 or 1."""

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Returns ½ twice, (D,)."""
        half = torch.full_like(self.levels, 0.5)
        return half, half

    def bound(self, encoded: Tensor) -> Tensor:
        """Returns (B, D, *grid) as it is."""
        return encoded


def entropy_penalty(model: Model, inference: Inference, temperature: float) -> Tensor:
    r"""Returns the entropy of each position's soft code less that of their mean over the batch, (B,), summed over N.

    The probability of a code is proportional to $e^{-|y - e|^2 / \tau}$, which is a product over bits.
    """
    encoded = cast(CodePoint, inference.posterior).encoded
    logits = 4.0 / temperature * encoded.movedim(1, -1).flatten(1, -2)  # (B, N, D), of the bit 1
    own = (-logits).sigmoid() * logits - logsigmoid(logits)  # the entropy of each bit
    # The mean over rows of a product over bits is a matrix product of two halves of the bits.
    rows = logits.flatten(0, 1)
    first, second = (joint(half) for half in rows.tensor_split(2, 1))
    mean = first.T @ second / len(rows)
    return sum_event(own, 2) - logits.shape[1] * cast(Tensor, torch.special.entr(mean)).sum()


def joint(logits: Tensor) -> Tensor:
    """Returns the probabilities (R, 2^D) of all combinations of bits with logits (R, D)."""
    found = logits.new_ones(len(logits), 1)
    for column in logits.unbind(1):
        both = torch.stack([(-column).sigmoid(), column.sigmoid()], 1)
        found = (both[:, :, None] * found[:, None, :]).flatten(1)
    return found


@register(
    "lfq-vae",
    changes=("encoder", "prior", "objective"),
    year=2023,
    paper="Yu et al.",
    url="https://arxiv.org/abs/2310.05737",
    defaults=code_defaults(BITS),
    couples_examples=True,
    replaceable={"prior": "codes"},
)
def lfq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    entropy: Annotated[float, Meta(ge=0, le=1e6)] = 0.1,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    temperature: Annotated[float, Meta(ge=1e-4, le=1e4)] = 1.0,
) -> VAE:
    r"""Minimises $D + \beta\,\|y - z\|^2 + \gamma \sum_n \big(H[q(e|y_n)] - H[\bar q(e)]\big)$ with the signs z of y.

    $$z = \mathrm{sign}(y), \qquad q(e|y) \propto \exp(-\|y - e\|^2 / \tau), \qquad e \in \{-1, 1\}^D$$

    Hyperparameters:
        entropy: $\gamma \ge 0$: each position's soft code shall be certain, their mean over the batch $\bar q$ uniform.
        commitment: $\beta \ge 0$, what it costs the encoder to stay away from its code.
        temperature: $\tau > 0$ of the soft codes, which are used in this term alone.

    The latent shape is (D, *grid): $V = 2^D$ codes, none of them stored, D up to 24. The mean over the batch couples
    examples. The rate is that of the uniform prior, N·log V nats in closed form; `code-prior` learns another.
    When to use it: for large vocabularies. It is confused with `fsq-vae`, which has more values and no entropy term.
    """
    if (bits := architecture.latent[0]) > MOST_BITS:
        raise ShapeError(f"Got {bits} numbers at each position; lfq-vae expected at most {MOST_BITS}, for 2^D codes.")
    encoder = SignEncoder(architecture.down(1), architecture.latent, [2] * bits, "lfq-vae")
    penalties: dict[str, tuple[float, Penalty]] = {
        "commitment": (commitment, commitment_of),
        "entropy": (entropy, partial(entropy_penalty, temperature=temperature)),
    }
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CodeObjective(penalties))
