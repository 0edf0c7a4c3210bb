"""The prior that owns the path of a hierarchy, and decoders that use the path."""

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, Part
from vaezoo.decoders import Decoder
from vaezoo.errors import CompositionError
from vaezoo.hierarchy.distributions import HierarchicalPrior
from vaezoo.hierarchy.path import Path, levels_of, run_top_down
from vaezoo.likelihoods import Likelihood


class PathPrior(Part):
    """The prior that owns a path; encoder and decoder refer to it."""

    is_shared = True
    has_dependent_latents = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z), with batch shape (B,) for a context (B, context)."""
        return HierarchicalPrior(self.path, c)


class PathMixin(Part):
    """Base of parts that refer to the path of the prior."""

    _path: tuple[Path, ...] = ()  # in a tuple, so that it is not registered

    @property
    def path(self) -> Path:
        """The path of the model that this part belongs to."""
        return self._path[0]

    def bind(self, model: Model) -> None:
        """Stores the path without registering it; raises CompositionError if the prior has none."""
        if not isinstance(model.prior, PathPrior):
            raise CompositionError(
                f"Got a prior of type {type(model.prior).__name__}; {type(self).__name__} expected the prior of its "
                "hierarchy, a PathPrior. Keep the prior."
            )
        self._path = (model.prior.path,)


class PathDecoder(PathMixin, Decoder):
    """A decoder of the last state of the path; its network maps (..., *state) to (..., P, *shape)."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        levels = levels_of(self.path, z)
        state = run_top_down(self.path, z.shape[:-1], c, lambda level, state, prior: levels[level])
        return self.decode_state(state, c)

    def decode_state(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) for the last state (..., *state) of the path."""
        return super().forward(state, c)


class BottomDecoder(Decoder):
    """A decoder of the lowest level, the last `size` latents; its network maps (..., size) to (..., P, *shape)."""

    def __init__(self, network: nn.Module, likelihood: Likelihood, size: int) -> None:
        super().__init__(network, likelihood)
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        return super().forward(z[..., -self.size :], c)

    def decode_state(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) for the last state (..., size) of a `MarkovPath`, which is the lowest level."""
        return super().forward(state, c)
