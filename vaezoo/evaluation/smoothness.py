r"""Perceptual path length of interpolations between latents.

$$\ell = \mathbb{E}\;\frac{1}{\epsilon^2}\,\big\|\phi(g(z_t)) - \phi(g(z_{t+\epsilon}))\big\|^2, \qquad
z_t = (1 - t)\,z_1 + t\,z_2,\; t \sim U(0, 1 - \epsilon)$$

Karras et al., 2019, https://arxiv.org/abs/1812.04948, section 4.1, with the means g of p(x|z) and the features φ of the
Fréchet distance in place of those of VGG16, between the posterior centers of two examples: without it, latents that no
image has would count. A smaller length is a smoother path.
"""

from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import VAE, as_number, center, code_indices, evaluating, rows_at_once, seeded, whole_number, whole_seed
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, DataError, ShapeError, shorten
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.frechet import Features, feature_rows
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.networks.features import TrainedFeatures

PAIRS: Final = 500
STEP: Final = 1e-3  # shorter ones differ by the rounding of float32


def path_lengths(
    model: VAE,
    data: object,
    *,
    pairs: int = PAIRS,
    step: float = STEP,
    features: Features | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Returns the path length of each pair of examples, (P,), in squared units of the features.

    Args:
        model: a model with continuous latents; a conditional one decodes with the context of the first example.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        pairs: P at most; the examples are chosen with a fixed seed, each is in one pair.
        step: $\epsilon$, from 1e-6 to 0.5.
        features: as in `frechet_distance`.
        seed: of the times t.

    Raises:
        ConfigError: an option is out of range.
        DataError: fewer than 2 examples.
        ShapeError: the latents are codes, or the data no images and there are no `features`.
    """
    pairs, seed, size = whole_number(pairs, "pairs", 1), whole_seed(seed), as_number(step)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 1e-6 <= size <= 0.5:
        raise ConfigError(f"Got step = {shorten(step)}; expected a number from 1e-6 to 0.5.")
    chosen = limited(test_set(model, data), 2 * pairs)[0]
    if len(chosen) < 2:
        raise DataError(f"Got {len(chosen)} example; expected at least 2, the ends of a path.")
    own = TrainedFeatures().to(next(model.parameters()).device) if features is None else features
    rows = max(2, rows_at_once(chosen.shape) // 2 * 2)
    found = list[Tensor]()
    modules = [each for each in (model, own) if isinstance(each, nn.Module)]
    with torch.no_grad(), evaluating(*modules), seeded(seed):
        for x, c in batches(model, chosen.subset(range(len(chosen) // 2 * 2)), rows):
            posterior = cast(Distribution, model.encoder(x, c))
            if code_indices(posterior) is not None:
                raise ShapeError("Got a model of discrete codes; expected continuous latents, which interpolate.")
            one, other = center(posterior).unflatten(0, (-1, 2)).unbind(1)
            t = torch.rand(len(one), dtype=one.dtype, device=one.device) * (1.0 - size)
            its = None if c is None else c[::2]
            near, far = (
                model.decoder(torch.lerp(one, other, at.view(-1, *[1] * (one.dim() - 1))), its).mean
                for at in (t, t + size)
            )
            ends = feature_rows(own, [near, far]).unflatten(0, (2, -1))
            found.append((ends[0] - ends[1]).square().sum(1) / size**2)
    return torch.cat(found)


def lengths_of(model: VAE, data: Dataset, seed: int) -> Tensor | None:
    """Returns `path_lengths` of a result of `test_set`; None for codes, or data that are no images or a single one."""
    if len(data.shape) != 3 or len(data) < 2:
        return None
    try:
        return path_lengths(model, data, seed=seed)
    except ShapeError:
        return None
