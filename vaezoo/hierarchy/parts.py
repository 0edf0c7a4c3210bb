"""Priors and decoders of hierarchies."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, Part
from vaezoo.decoders import Decoder
from vaezoo.errors import CompositionError
from vaezoo.hierarchy.distributions import HierarchicalPrior
from vaezoo.hierarchy.path import Path, levels_of, run_top_down
from vaezoo.likelihoods import Likelihood

__all__ = ["BottomDecoder", "PathDecoder", "PathMixin", "PathPrior"]


class PathPrior(Part):
    """The prior that owns a path; encoder and decoder refer to it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z), with a batch (B,) where there is a context."""
        return HierarchicalPrior(self.path, c)


class PathMixin(Part):
    """A part that refers to the prior's path, which it does not own."""

    _path: tuple[Path, ...] = ()  # in a tuple, so that it is not registered

    @property
    def path(self) -> Path:
        """The path of the model that this part is in."""
        return self._path[0]

    def bind(self, model: Model) -> None:
        """Remembers the path, without registering it; raises CompositionError if the prior has none."""
        path = getattr(model.prior, "path", None)
        if not isinstance(path, Path):
            raise CompositionError(
                f"{type(self).__name__} needs the prior of its hierarchy; got {type(model.prior).__name__}, which has "
                "no levels. Leave the prior as it is."
            )
        self._path = (path,)


class PathDecoder(PathMixin, Decoder):
    """A decoder of the state at the end of the prior's path; its network maps (..., *state) to (..., P, *shape)."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        levels = levels_of(self.path, z)
        return self.read(run_top_down(self.path, z.shape[:-1], c, lambda level, state, prior: levels[level]), c)

    def read(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) from the last state (..., *state)."""
        return super().forward(state, c)


class BottomDecoder(Decoder):
    """A decoder that sees the lowest level alone, the last `size` latents; its network maps (..., size)."""

    def __init__(self, network: nn.Module, likelihood: Likelihood, size: int) -> None:
        super().__init__(network, likelihood)
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        return super().forward(z[..., -self.size :], c)

    def read(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) from the lowest level (..., size), where a `MarkovPath` ends."""
        return super().forward(state, c)
