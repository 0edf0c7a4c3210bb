"""`VAE`: the four parts, and what a user calls on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.elbo import ELBO, Inference, Objective, Part, center, draw
from vaezoo.errors import ContextError, NoDensityError, ShapeError, SupportError

__all__ = ["VAE", "seeded"]

PARTS = ("encoder", "decoder", "prior", "objective")
ROWS = 1000  # decoder inputs at a time in log_evidence: they and their activations stay in cache


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Runs the block with torch's generators seeded and puts the caller's random state back; None changes nothing."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


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
        """Returns a model with other parts (`encoder`, `decoder`, `prior`, `objective`); the rest is shared, not copied."""
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise TypeError(f"replace() takes {', '.join(PARTS)}; got {', '.join(sorted(unknown))}.")
        chosen = {name: parts.get(name, self._modules[name]) for name in PARTS}
        return VAE(**chosen, shape=self.shape, latent=self.latent, context=self.context)  # type: ignore[arg-type]  # modules by name

    # What objectives and the trainer use: nothing is checked here.

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass of checked inputs: K = `samples` draws of z for each of B examples."""
        posterior = cast(Distribution, self.encoder(x, c))
        z, log_q = draw(posterior, samples)
        likelihood = cast(Distribution, self.decoder(z, c))
        return Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=self.prior(c), likelihood=likelihood)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what parts that learn without a gradient need of a pass, keyed `part.name`; nothing in eval mode."""
        if not self.training:
            return {}
        return {
            f"{name}.{key}": value
            for name, part in self._parts().items()
            for key, value in part.observe(inference).items()
        }

    def initialize(
        self, batches: Sequence[tuple[Tensor, Tensor | None]], parts: Sequence[str] | None = None
    ) -> None:
        """Starts from data what should start from data, in all or in the named parts; (x, c) batches, c as vectors."""
        for name, part in self._parts().items():
            if parts is None or name in parts:
                part.initialize(self, batches)

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what learns without a gradient; `seen`: `ELBO.seen` of each micro-batch and rank, in order."""
        with torch.no_grad():
            for name, part in self._parts().items():
                prefix = f"{name}."
                own = [
                    {key.removeprefix(prefix): value for key, value in each.items() if key.startswith(prefix)}
                    for each in seen
                ]
                part.after_step(own, step)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Returns each player's trainable parameters."""
        return self.objective.players(self)

    # The public door: what the user passes in is checked here, once.

    def forward(self, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of `x` (B, *shape) given `c`, class indices (B,) or vectors (B, context).

        Without a density (grey pixels under a Bernoulli, say) the bound is -inf and the losses are a loss, no likelihood.

        Raises:
            ShapeError, SupportError, ContextError: what was got, what was expected and what to do.
        """
        x, c = self.check(x, c)
        elbo = cast(ELBO, self.objective(self, x, c, step))
        return elbo if self.has_density(x) else replace(elbo, bound=torch.full_like(elbo.bound, -torch.inf))

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior q(z|x,c) of `x` (B, *shape); nothing random happens."""
        x, c = self.check(x, c)
        return cast(Distribution, self.encoder(x, c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the likelihood p(x|z,c) of `z` (..., *latent), `c` as in `forward`."""
        if self.latent is not None and tuple(z.shape[max(z.dim() - len(self.latent), 0) :]) != self.latent:
            raise ShapeError(f"Got z of shape {tuple(z.shape)}; expected (..., {str(self.latent)[1:-1].rstrip(',')}).")
        leading = z.dim() - len(self.latent) if self.latent is not None else 1
        z = z.to(*self._home())
        return cast(Distribution, self.decoder(z, self.check_context(c, z.shape[leading - 1] if leading else 1)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the mean of p(x|z,c) at the posterior's centre, (B, *shape); deterministic."""
        x, c = self.check(x, c)
        return cast(Tensor, self.decoder(center(self.encoder(x, c)), c).mean)

    @torch.no_grad()
    def sample(self, n: int = 1, c: Tensor | int | None = None, seed: int | None = None) -> Tensor:
        """Returns the means of p(x|z,c) for `n` draws of z ~ p(z|c), (n, *shape).

        `c`: one class index for all, class indices (n,) or vectors (n, context). `seed=None` draws from the caller's random
        state; a number leaves that state alone.
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
    def log_evidence(
        self, x: Tensor, c: Tensor | None = None, samples: int = 5000, seed: int | None = None
    ) -> Tensor:
        r"""Returns an importance-weighted lower bound on log p(x|c) for each example, (B,), nats.

        $\log \frac1K \sum_k p(x|z_k)\,p(z_k)/q(z_k|x)$ with K = `samples` (Burda et al., 2016,
        https://arxiv.org/abs/1509.00519): a stochastic lower bound that rises with K. Computed in chunks that fit in cache.

        Raises:
            NoDensityError: the posterior is a point mass in a continuous space.
            SupportError: x has no density under the likelihood, such as grey pixels under a Bernoulli.
        """
        x, c = self.check(x, c)
        if samples < 1:
            raise ShapeError(f"Got samples = {samples}; expected at least 1.")
        likelihood = getattr(self.decoder, "likelihood", None)
        if likelihood is not None and not bool(likelihood.contains(x).all()):
            raise SupportError(
                f"The {type(likelihood).__name__} likelihood gives these x no density: expected {likelihood.support}."
            )
        rows = min(len(x), 10)
        with seeded(seed, x.device):
            parts = [
                self._log_evidence(x[start : start + rows], None if c is None else c[start : start + rows], samples)
                for start in range(0, len(x), rows)
            ]
        return torch.cat(parts)

    def _log_evidence(self, x: Tensor, c: Tensor | None, samples: int) -> Tensor:
        posterior, prior = cast(Distribution, self.encoder(x, c)), self.prior(c)
        if not getattr(posterior, "has_density", True):
            raise NoDensityError("This model's posterior has no density (a point mass): it has no evidence either.")
        chunk = max(1, ROWS // len(x))
        total = x.new_full((len(x),), -torch.inf)
        for done in range(0, samples, chunk):
            z, log_q = draw(posterior, min(chunk, samples - done))
            inference = Inference(
                x=x, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=self.decoder(z, c)
            )
            total = torch.logaddexp(total, inference.log_weights().logsumexp(0))
        return total - torch.tensor(float(samples), dtype=total.dtype).log().item()

    def has_density(self, x: Tensor) -> bool:
        """Says whether all of checked `x` lies where the likelihood is one (and not a mere loss)."""
        likelihood = getattr(self.decoder, "likelihood", None)
        return likelihood is None or bool(likelihood.contains(x).all())

    def check(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns `x` and `c` in the model's dtype, `c` as vectors (B, context) or None.

        Raises:
            ShapeError: wrong shape, type or device, or an empty batch.
            SupportError: NaN, infinite, or values that the likelihood cannot even take as a loss.
            ContextError: see `check_context`.
        """
        device, dtype = self._home()
        x = check_tensor(x, self.shape, device).to(dtype)
        if not bool(torch.isfinite(x).all()):
            bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero().flatten().tolist()
            raise SupportError(
                f"x holds NaN or infinite values in examples {bad[:8]}; expected finite values. Clean the data first."
            )
        likelihood = getattr(self.decoder, "likelihood", None)
        if likelihood is not None and not bool(likelihood.accepts(x).all()):
            raise SupportError(
                f"x ranges from {x.min().item():.4g} to {x.max().item():.4g}; the {type(likelihood).__name__} likelihood "
                f"expects {likelihood.domain}. Scale the data or choose another likelihood."
            )
        return x, self.check_context(c, len(x))

    def check_context(self, c: Tensor | None, rows: int) -> Tensor | None:
        """Returns the context as vectors (rows, context), or None for an unconditional model.

        Raises:
            ContextError: missing, unwanted, of the wrong shape, or class indices out of range.
        """
        device, dtype = self._home()
        if not self.context:
            if c is not None and c.numel():
                raise ContextError(f"Got a context of shape {tuple(c.shape)}; this model is unconditional. Leave c out.")
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
            if not bool(torch.isfinite(c).all()):
                raise ContextError(f"The context holds NaN or infinite values; expected {expected}.")
            return c.to(dtype)
        raise ContextError(f"Got a context of shape {tuple(c.shape)} and type {c.dtype}; expected {expected}.")

    def _home(self) -> tuple[torch.device, torch.dtype]:
        tensor = next(self.parameters(), None)
        tensor = tensor if tensor is not None else next(self.buffers(), torch.zeros(()))
        return tensor.device, tensor.dtype


def check_tensor(x: object, shape: tuple[int, ...] | None, device: torch.device) -> Tensor:
    """Returns `x` if it is a non-empty batch (B, *shape) of floating (or bool) values on `device`; raises ShapeError."""
    if not isinstance(x, Tensor):
        raise ShapeError(f"Got x of type {type(x).__name__}; expected a torch.Tensor. Use torch.as_tensor(x).")
    wanted = "(B, ...)" if shape is None else f"(B, {', '.join(map(str, shape))})"
    if x.dim() == 0 or (shape is not None and tuple(x.shape[1:]) != shape):
        raise ShapeError(f"Got x of shape {tuple(x.shape)}; expected {wanted}.")
    if x.shape[0] == 0:
        raise ShapeError(f"Got an empty batch of shape {tuple(x.shape)}; expected at least one example, {wanted}.")
    if not (x.is_floating_point() or x.dtype == torch.bool):
        raise ShapeError(f"Got x of type {x.dtype}; expected floating values: for 8-bit images use x.float() / 255.")
    if x.device != device:
        raise ShapeError(f"Got x on {x.device}; the model is on {device}. Use x.to('{device}') or model.to('{x.device}').")
    return x
