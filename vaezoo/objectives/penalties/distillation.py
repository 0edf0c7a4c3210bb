r"""Distillation: a small model is trained to have the latents and the images of a larger one, its teacher."""

from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Inference, Model, center, full_precision


class DistillationPenalty(nn.Module):
    r"""The penalty $\frac{u}{2} \|m(x) - m_T(x)\|^2 - v\,\mathbb{E}_q \log p(\hat x_T|z)$, (B,), nats for $v$ = 1.

    $m$ and $m_T$ are the centers of the posteriors of the model and of the teacher, and $\hat x_T$ is the teacher's
    reconstruction. After Hinton et al. (2015, https://arxiv.org/abs/1503.02531): the targets are outputs of the
    teacher instead of data.

    The teacher is in eval mode and is not trained. It moves with the penalty to devices and types, but is not
    registered: no state, parameter or saved model contains it.

    Args:
        teacher: a model of examples, latents and contexts of the same shapes.
        latents: $u \ge 0$.
        pixels: $v \ge 0$.
    """

    def __init__(self, teacher: Model, latents: float, pixels: float) -> None:
        super().__init__()
        self.latents, self.pixels = latents, pixels
        self._held = (cast(nn.Module, teacher).eval(),)  # in a tuple, so that it is not registered

    @property
    def teacher(self) -> Model:
        """The teacher."""
        return cast(Model, self._held[0])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._held[0]._apply(fn)
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch's own has no types

    def forward(self, model: Model, inference: Inference) -> Tensor:
        """Returns the penalty, (B,)."""
        x, c = inference.x, inference.c
        penalty = torch.zeros(len(x), dtype=full_precision(inference.z).dtype, device=x.device)
        with torch.no_grad():
            latents = center(cast(Distribution, self.teacher.encoder(x, c)))
            images = cast(Distribution, self.teacher.decoder(latents, c)).mean if self.pixels else x
        if self.latents:
            difference = full_precision(center(inference.posterior)) - full_precision(latents)
            penalty = penalty + 0.5 * self.latents * difference.square().flatten(1).sum(1)
        if self.pixels:
            penalty = penalty - self.pixels * inference.likelihood.log_prob(full_precision(images)).mean(0)
        return penalty
