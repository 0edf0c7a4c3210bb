"""`VAE`: the four parts, and what a user calls on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core.checks import LARGEST_VALUE, check_latent, check_tensor, label_vectors
from vaezoo.core.elbo import ELBO, Inference
from vaezoo.core.part import PARTS, Objective, Part, as_part
from vaezoo.core.posterior import center, has_density, is_deterministic, sample_with_log_prob
from vaezoo.core.random import seeded
from vaezoo.errors import ContextError, NoDensityError, ShapeError, SupportError

__all__ = ["VAE"]

PIXELS = 784_000  # elements of x that log_evidence decodes at a time: they and their activations stay in cache


class VAE(nn.Module):
    """A variational autoencoder: encoder, decoder, prior and objective.

    Args:
        encoder: `x, c -> q(z|x,c)`, a module that returns a distribution.
        decoder: `z, c -> p(x|z,c)`, likewise; accepts any leading dimensions of z.
        prior: `c -> p(z|c)`, likewise.
        objective: `model, x, c, step -> ELBO`.
        shape: the event shape of x; None leaves inputs unchecked.
        latent: the event shape of z; None leaves it unchecked.
        context: width of the context, 0 for an unconditional model.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        objective: Objective,
        *,
        shape: Sequence[int] | None = None,
        latent: Sequence[int] | None = None,
        context: int = 0,
    ) -> None:
        super().__init__()
        self.shape = None if shape is None else tuple(shape)
        self.latent = None if latent is None else tuple(latent)
        self.context = context
        #: how to build this model again by name; None for one that was put together by hand
        self.config: Mapping[str, object] | None = None
        self.encoder, self.decoder, self.prior, self.objective = encoder, decoder, prior, objective
        self._bind()

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute; a part that is set makes this a model of one's own (no config) and is told the others."""
        super().__setattr__(name, value)  # type: ignore[arg-type]  # nn.Module narrows what it accepts
        if name in PARTS and "objective" in self._modules:
            self.config = None
            self._bind()

    def _bind(self) -> None:
        for part in self._parts().values():
            part.bind(self)

    def _parts(self) -> dict[str, Part]:
        modules = {name: self._modules[name] for name in PARTS}
        return {name: module for name, module in modules.items() if isinstance(module, Part)}

    def replace(self, **parts: nn.Module) -> VAE:
        """Returns a model with other parts (`encoder`, `decoder`, `prior`, `objective`); the rest shares its tensors.

        Each part is a second module around the same tensors: where it refers to another part (a prior to the encoder's
        codebook), that is the new model's there, and still what it was where the part came from.

        Raises:
            TypeError: a name that is no part.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise TypeError(f"replace() takes {', '.join(PARTS)}; got {', '.join(sorted(unknown))}.")
        chosen = {name: copy(parts.get(name, self._modules[name])) for name in PARTS}
        return VAE(**chosen, shape=self.shape, latent=self.latent, context=self.context)  # type: ignore[arg-type]  # modules by name

    # What objectives and the trainer use: nothing is checked here.

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass of checked inputs: K = `samples` draws of z for each of B examples."""
        posterior = cast(Distribution, self.encoder(x, c))
        z, log_q = sample_with_log_prob(posterior, samples)
        likelihood = cast(Distribution, self.decoder(z, c))
        return Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=self.prior(c), likelihood=likelihood)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what parts that learn without a gradient need of a pass, keyed `part.name`; nothing in eval mode."""
        if not self.training:
            return {}
        observed = {name: part.observe(inference) for name, part in self._parts().items()}
        return {
            f"{name}.{key}": value
            for name, values in observed.items()
            if values and not is_frozen(self._parts()[name])  # asked last: it walks through all parameters
            for key, value in values.items()
        }

    def initialize(self, batches: Sequence[tuple[Tensor, Tensor | None]], parts: Sequence[str] | None = None) -> None:
        """Starts from data what should start from data, in all or in the named parts; (x, c) batches, c as vectors."""
        for name, part in self._parts().items():
            if parts is None or name in parts:
                part.initialize(self, batches)

    def initialization_examples(self, parts: Sequence[str]) -> int:
        """Returns how many examples `initialize` of the named parts is best given: as many as one of them asks for."""
        wanted = (part.initialization_examples for name, part in self._parts().items() if name in parts)
        return max(wanted, default=Part.initialization_examples)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what learns without a gradient; `seen`: `ELBO.seen` of each micro-batch and rank, in order.

        A part whose parameters are all frozen (in a stage that trains others) stays as it is.
        """
        with torch.no_grad():
            for name, part in self._parts().items():
                if is_frozen(part):
                    continue
                prefix = f"{name}."
                own = [
                    {key.removeprefix(prefix): value for key, value in each.items() if key.startswith(prefix)}
                    for each in statistics
                ]
                part.after_step(own, step)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Returns each player's trainable parameters."""
        return self.objective.players(self)

    # The public door: what the user passes in is checked here, once.

    def forward(self, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of `x` (B, *shape) given `c`, class indices (B,) or vectors (B, context).

        Where there is no density (grey pixels under a Bernoulli, say) an example's bound is -inf, and its losses are no
        likelihood.

        Raises:
            ShapeError, SupportError, ContextError: what was got, what was expected and what to do.
        """
        x, c = self.check(x, c)
        elbo = cast(ELBO, self.objective(self, x, c, step))
        likelihood = as_part(self.decoder).likelihood
        if likelihood is None:
            return elbo
        return replace(elbo, bound=elbo.bound.where(likelihood.contains(x), -torch.inf))

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior q(z|x,c) of `x` (B, *shape); nothing random happens."""
        x, c = self.check(x, c)
        return cast(Distribution, self.encoder(x, c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the likelihood p(x|z,c) of `z` (..., B, *latent), `c` as in `forward`.

        Raises:
            ShapeError, SupportError, ContextError: what was got, what was expected and what to do.
        """
        z = check_latent(z, self.latent).to(*self._home())
        leading = z.dim() - len(self.latent) if self.latent is not None else 1
        return cast(Distribution, self.decoder(z, self.check_context(c, z.shape[leading - 1] if leading else 1)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the mean of p(x|z,c) at the posterior's centre, (B, *shape); deterministic."""
        x, c = self.check(x, c)
        return cast(Tensor, self.decoder(center(self.encoder(x, c)), c).mean)

    @torch.no_grad()
    def sample(self, n: int = 1, c: Tensor | int | None = None, seed: int | None = None) -> Tensor:
        """Returns the means of p(x|z,c) for `n` draws of z ~ p(z|c), (n, *shape).

        `c`: one class index for all, class indices (n,) or vectors (n, context). `seed=None` draws from the caller's
        random state; a number leaves that state alone.
        """
        if n < 1:
            raise ShapeError(f"Got n = {n}; expected at least 1 sample.")
        if isinstance(c, int):
            c = torch.full((n,), c)
        context = self.check_context(c, n)
        with seeded(seed, self._home()[0]):
            prior = cast(Distribution, self.prior(context))
            z = prior.sample(() if prior.batch_shape else (n,))
            return cast(Tensor, self.decoder(z, context).mean)

    @torch.no_grad()
    def log_evidence(self, x: Tensor, c: Tensor | None = None, samples: int = 5000, seed: int | None = None) -> Tensor:
        r"""Returns an importance-weighted lower bound on log p(x|c) for each example, (B,), nats.

        $\log \frac1K \sum_k p(x|z_k)\,p(z_k)/q(z_k|x)$ with K = `samples` (Burda et al., 2016,
        https://arxiv.org/abs/1509.00519): a stochastic lower bound that rises with K, in chunks that fit in cache.

        Raises:
            NoDensityError: the posterior is a point mass in a continuous space.
            SupportError: x has no density under the likelihood, such as grey pixels under a Bernoulli.
        """
        x, c = self.check(x, c)
        if self.takes_unlabelled and c is not None:
            c = torch.zeros_like(c)  # log p(x): a label would make it log p(x|c)
        if samples < 1:
            raise ShapeError(f"Got samples = {samples}; expected at least 1.")
        likelihood = as_part(self.decoder).likelihood
        if likelihood is not None and not bool(likelihood.contains(x).all()):
            raise SupportError(
                f"Got x to which the {type(likelihood).__name__} likelihood gives no density; expected "
                f"{likelihood.support}. `model(x)` still gives the losses."
            )
        rows = min(len(x), 10)  # few examples and many samples: the encoder runs once for each example either way
        with seeded(seed, x.device):
            parts = [
                self._log_evidence(x[start : start + rows], None if c is None else c[start : start + rows], samples)
                for start in range(0, len(x), rows)
            ]
        return torch.cat(parts)

    def _log_evidence(self, x: Tensor, c: Tensor | None, samples: int) -> Tensor:
        posterior, prior = cast(Distribution, self.encoder(x, c)), self.prior(c)
        if not has_density(posterior):
            raise NoDensityError(
                "Got a model whose posterior is a point mass in a continuous space; expected one that has a density. "
                "Compare distortions, or train another variant."
            )
        # One draw says all where every draw is the same.
        samples = 1 if is_deterministic(posterior) else samples
        chunk = max(1, PIXELS // max(1, x.numel()))
        total = x.new_full((len(x),), -torch.inf)
        for done in range(0, samples, chunk):
            z, log_q = sample_with_log_prob(posterior, min(chunk, samples - done))
            inference = Inference(
                x=x, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=self.decoder(z, c)
            )
            total = torch.logaddexp(total, inference.log_weights().logsumexp(0))
        return total - math.log(samples)

    def has_density(self, x: Tensor) -> bool:
        """Says whether all of checked `x` (B, *shape) lies where the likelihood is one (and not a mere loss)."""
        likelihood = as_part(self.decoder).likelihood
        return likelihood is None or bool(likelihood.contains(x).all())

    def check(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns `x` and `c` in the model's dtype (float32 for a model in half precision), `c` as vectors or None.

        Raises:
            ShapeError: wrong shape, type or device, or an empty batch.
            SupportError: NaN, infinite, or values that the likelihood cannot even take as a loss.
            ContextError: see `check_context`.
        """
        device, dtype = self._home()
        x = check_tensor(x, self.shape, device).to(dtype)
        if not bool(torch.isfinite(x).all()):
            bad = (~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero().flatten().tolist()
            raise SupportError(
                f"Got NaN or infinite values ({dtype}) in examples {bad[:8]} of x; expected finite ones. Clean them."
            )
        likelihood = as_part(self.decoder).likelihood
        if likelihood is not None and not bool(likelihood.accepts(x).all()):
            raise SupportError(
                f"Got x from {x.min().item():.6g} to {x.max().item():.6g}; the {type(likelihood).__name__} likelihood "
                f"expected {likelihood.domain}. Scale the data or choose another likelihood."
            )
        return x, self.check_context(c, len(x))

    def check_context(self, c: Tensor | None, rows: int) -> Tensor | None:
        """Returns the context as vectors (rows, context), or None for an unconditional model.

        Raises:
            ContextError: missing, unwanted, of the wrong shape, or class indices out of range.
        """
        device, dtype = self._home()
        if c is not None and not isinstance(c, Tensor):
            raise ContextError(
                f"Got a context of type {type(c).__name__}; expected a torch.Tensor. Use torch.as_tensor(c)."
            )
        if self.takes_unlabelled:
            return label_vectors(c, rows, self.context).to(device, dtype)
        if not self.context:
            if c is not None and c.shape != (rows, 0):
                raise ContextError(f"Got a context of shape {tuple(c.shape)}; this model expected none. Leave c out.")
            return None
        expected = f"class indices ({rows},) from 0 to {self.context - 1} or vectors ({rows}, {self.context})"
        if c is None:
            raise ContextError(f"Got no context; this model needs c: {expected}.")
        c = c.to(device)
        if c.shape == (rows,) and not c.is_floating_point() and not c.is_complex():
            if rows and (int(c.min()) < 0 or int(c.max()) >= self.context):
                raise ContextError(f"Got class indices from {int(c.min())} to {int(c.max())}; expected {expected}.")
            return nn.functional.one_hot(c.long(), self.context).to(dtype)
        if c.shape == (rows, self.context) and not c.is_complex():
            if not bool((c.to(dtype).abs() <= LARGEST_VALUE).all()):
                raise ContextError(
                    f"Got a context with NaN, infinite or huge values; expected {expected}, finite and up to "
                    f"{LARGEST_VALUE:g} in magnitude."
                )
            return c.to(dtype)
        raise ContextError(f"Got a context of shape {tuple(c.shape)} and type {c.dtype}; expected {expected}.")

    @property
    def takes_unlabelled(self) -> bool:
        """Whether the context holds labels that may lack: -1, or zeros in place of a one-hot vector."""
        return as_part(self.encoder).takes_unlabelled

    def _home(self) -> tuple[torch.device, torch.dtype]:
        tensor = next(chain(self.parameters(), self.buffers()), torch.zeros(()))
        # Data stay in float32 for a model in half precision: densities are computed in it.
        return tensor.device, torch.promote_types(tensor.dtype, torch.float32)


def is_frozen(part: nn.Module) -> bool:
    """Says whether a part has parameters and none of them is trained."""
    flags = [parameter.requires_grad for parameter in part.parameters()]
    return bool(flags) and not any(flags)
