"""The `VAE` module and its public methods."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core.checks import (
    LARGEST_VALUE,
    as_context,
    check_indices,
    check_latent,
    check_tensor,
    context_vectors,
    invalid_values,
    whole_number,
)
from vaezoo.core.copies import is_frozen, shallow_copy
from vaezoo.core.description import description, elsewhere
from vaezoo.core.elbo import ELBO, Inference
from vaezoo.core.latents import LatentMethods
from vaezoo.core.modes import differentiable, evaluating, recording
from vaezoo.core.notebook import html_of
from vaezoo.core.part import PARTS, Context, Likelihood, Objective, Part, as_part
from vaezoo.core.posterior import center, has_density, is_deterministic, sample_with_log_prob, tempered, truncated
from vaezoo.core.random import seeded
from vaezoo.errors import CompositionError, ContextError, NoDensityError, ShapeError, SupportError, warn

CHUNK = 784_000  # elements of x that log_evidence decodes at a time on a CPU: activations stay in its cache
CHUNK_ON_GPU = 2**24  # enough work for each kernel


class VAE(LatentMethods, nn.Module):
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

    _shares = False  # tensors with another model, see `replace`

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
        #: how to build this model again by name; None for one that was assembled by hand
        self.config: Mapping[str, object] | None = None
        #: as in `metrics.json`, of the weights as they were loaded; None for others
        self.figures: Mapping[str, object] | None = None
        self.encoder, self.decoder, self.prior, self.objective = encoder, decoder, prior, objective
        self._bind()

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute; replacing a part clears `config` and binds all parts again."""
        replaced = name in PARTS and self._modules.get(name, value) is not value
        super().__setattr__(name, value)  # type: ignore[arg-type]  # nn.Module narrows what it accepts
        if name == "config":
            self._shares = False  # built by name: the models that it was built from are gone
        if replaced:
            self.config = None
            self._bind()

    def _bind(self) -> None:
        for part in self._parts().values():
            part.bind(self)

    def _parts(self) -> dict[str, Part]:
        modules = {name: self._modules[name] for name in PARTS}  # no walrus: torch.compile must trace it
        return {name: module for name, module in modules.items() if isinstance(module, Part)}

    def __repr__(self) -> str:
        """Returns variant, shapes, sizes and parts, figures of pretrained weights, and the modules."""
        return f"{description(self, PARTS)}\n{super().__repr__()}"

    def _repr_html_(self) -> str:
        """Returns the description and eight samples, seed 0, for notebooks; random states are unchanged."""
        return html_of(self, description(self, PARTS))

    def __getattr__(self, name: str) -> Any:  # Any: as nn.Module's
        """Returns a module, parameter or buffer; an error for a name of other libraries states that of this one."""
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            raise AttributeError(f"{error}.{elsewhere(name)}") from None

    def replace(self, **parts: nn.Module) -> "VAE":
        """Returns a model with other parts (`encoder`, `decoder`, `prior`, `objective`).

        All of its modules are new, so that assignments, modes and hooks stay in one model. Parameters and buffers are
        the same tensors: training, freezing or loading a state changes both models. A conversion to another type or
        device first gives the converted model tensors of its own. `copy.deepcopy` gives a model that shares nothing.

        Raises:
            TypeError: a name that is no part.
        """
        if unknown := set(parts) - set(PARTS):
            raise TypeError(f"replace() takes {', '.join(PARTS)}; got {', '.join(sorted(unknown))}.")
        made: dict[nn.Module, nn.Module] = {}
        chosen = {name: shallow_copy(parts.get(name) or cast(nn.Module, self._modules[name]), made) for name in PARTS}
        model = VAE(**chosen, shape=self.shape, latent=self.latent, context=self.context)  # type: ignore[arg-type]  # modules by name
        model._shares = self._shares = True
        return model

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        shared = {parameter: parameter.detach() for parameter in self.parameters()} if self._shares else {}
        if any(fn(values) is not values for values in shared.values()):  # torch would convert them for both models
            own = {each: nn.Parameter(values, each.requires_grad) for each, values in shared.items()}
            for module in self.modules():
                module._parameters.update({key: own[each] for key, each in module._parameters.items() if each in own})
            self._shares = False
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch's own has no types

    # Used by objectives and the trainer; inputs are not validated.

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass of validated inputs: K = `samples` draws of z for each of B examples."""
        posterior = cast(Distribution, self.encoder(x, c))
        z, log_q = sample_with_log_prob(posterior, samples)
        likelihood = cast(Distribution, self.decoder(z, c))
        return Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=self.prior(c), likelihood=likelihood, c=c)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the statistics of a pass that `after_step` needs, keyed `part.name`; none in eval mode."""
        if not self.training:
            return {}
        observed = {name: part.observe(inference) for name, part in self._parts().items()}
        return {
            f"{name}.{key}": value
            for name, values in observed.items()
            if values and not is_frozen(self._parts()[name])  # last, since it visits all parameters
            for key, value in values.items()
        }

    def initialize(self, batches: Sequence[tuple[Tensor, Tensor | None]], parts: Sequence[str] | None = None) -> None:
        """Runs data-dependent initialization of all or the named parts on (x, c) batches, c as vectors."""
        for name, part in self._parts().items():
            if parts is None or name in parts:
                part.initialize(self, batches)

    def initialization_examples(self, parts: Sequence[str]) -> int:
        """Returns how many examples `initialize` of the named parts needs, the maximum over them."""
        return max(as_part(self.get_submodule(name)).initialization_examples for name in parts)

    @property
    def updates_statistics(self) -> bool:
        """Whether any part overrides `after_step`."""
        return any(type(part).after_step is not Part.after_step for part in self._parts().values())

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates statistics that are learned without gradients (EMA codebooks, running scales).

        Parts whose parameters are all frozen are skipped.

        Args:
            statistics: `ELBO.statistics` of each micro-batch and rank, in order.
            step: the number of the optimizer step, a 0-dim tensor.
        """
        with torch.no_grad():
            for name, part in self._parts().items():
                if type(part).after_step is Part.after_step or is_frozen(part):
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

    # Public API; inputs are validated here and moved to the device of the model.

    @differentiable
    def forward(self, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of `x` (B, *shape) given `c`, class indices (B,) or vectors (B, context).

        The bound is -inf for examples without a density, such as gray pixels under a Bernoulli; their losses are then
        no log-likelihoods.

        Raises:
            ShapeError, SupportError, ContextError: see `check`.
        """
        x, c, dense = self._checked(x, c)
        elbo = cast(ELBO, self.objective(self, x, c, step))
        return elbo if dense is None else replace(elbo, bound=elbo.bound.where(dense, -torch.inf))

    @differentiable
    def encode(self, x: Tensor, c: Context | None = None) -> Distribution:
        """Returns the posterior q(z|x,c) of `x` (B, *shape); nothing random happens.

        Any finite values are encoded, also ones to which the likelihood gives no density. In eval mode gradients are
        recorded only if `x` or `c` requires one, so that `model.encode(x).mean.numpy()` works; in train mode always.

        Raises:
            ShapeError, SupportError, ContextError: as in `check`.
        """
        x, c = self._encodable(x, c)
        with recording(self.encoder, x, c):
            return cast(Distribution, self.encoder(x, c))

    @differentiable
    def decode(self, z: Tensor, c: Context | None = None) -> Distribution:
        """Returns the likelihood p(x|z,c) of `z` (..., B, *latent), `c` as in `forward`.

        Gradients are recorded as by `encode`: in eval mode only if `z` or `c` requires one.

        Raises:
            ShapeError, SupportError: another shape, or values that are not finite.
            ContextError: see `check_context`.
        """
        z = check_latent(z, self.latent).to(*self._home())
        leading = z.dim() - len(self.latent) if self.latent is not None else 1
        c = self.check_context(c, z.shape[leading - 1] if leading else 1)
        with recording(self.decoder, z, c):
            return cast(Distribution, self.decoder(z, c))

    @differentiable
    @torch.no_grad()
    def encode_indices(self, x: Tensor, c: Context | None = None) -> Tensor:
        """Returns the indices of the codes of `x`, int64 (B, *grid), for variants with codes or categories.

        `residual-vq-vae` has (B, codebooks, *grid), `vq-vae-2` (B, N) with the coarse grid first, `categorical-vae`
        (B, variables). Stochastic codes are the most probable ones, as in `reconstruct`.

        Raises:
            CompositionError: the model has no codes.
            ShapeError, SupportError, ContextError: as in `encode`.
        """
        encoder, shape = self._coded()
        return cast(Tensor, encoder.indices(self.encode(x, c))).reshape(x.shape[0], *shape)

    @differentiable
    @torch.no_grad()
    def decode_indices(self, indices: Tensor, c: Context | None = None) -> Tensor:
        """Returns the means of p(x|z,c) for codes, (..., B, *shape); of `encode_indices(x)` it is `reconstruct(x)`.

        Args:
            indices: (..., B, *grid) as from `encode_indices`, or flat, (..., B, N).
            c: as in `forward`.

        Raises:
            CompositionError: the model has no codes.
            ShapeError, SupportError: another shape or type, or indices out of range.
            ContextError: see `check_context`.
        """
        encoder, shape = self._coded()
        flat = check_indices(indices, shape, cast(int, encoder.codes)).to(self._home()[0])
        return self.decode(cast(Callable[[Tensor], Tensor], encoder.look_up)(flat), c).mean

    def _coded(self) -> tuple[Part, tuple[int, ...]]:
        encoder = as_part(self.encoder)
        shape = encoder.index_shape if encoder.index_shape is not None else (sum(encoder.sections),)
        if encoder.index_shape is None and not encoder.sections:
            raise CompositionError(
                f"Got a model whose encoder, {type(self.encoder).__name__}, has no codes; expected one such as that "
                "of vq-vae or categorical-vae. Use encode and decode."
            )
        return encoder, shape

    @differentiable
    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Context | None = None) -> Tensor:
        """Returns the mean of p(x|z,c) at the center of the posterior, (B, *shape); deterministic.

        Any finite values are accepted, as by `encode`.
        """
        x, c = self._encodable(x, c)
        return cast(Tensor, self.decoder(center(self.encoder(x, c)), c).mean)

    @differentiable
    @torch.no_grad()
    def sample(
        self,
        n: int | None = None,
        c: Context | None = None,
        seed: int | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Returns the means of p(x|z,c) for `n` draws of z ~ p(z|c), (n, *shape).

        Args:
            n: number of samples; None: as many as `c` has rows, else 1.
            c: one class, index or name, for all; indices or names (n,); or vectors (n, context).
            seed: leaves all random states unchanged, and may be used in several threads; None draws from the caller's.
            temperature: factor of the prior's standard deviations, or divisor of its logits over codes; below 1 samples
                are more typical and less varied.
            top_k: draws each code among the so many most probable ones; None: among all. For learned priors over codes.
            top_p: draws each code among the most probable ones whose probabilities sum to at least this; None: all.
            generator: draws from it in place of a seed.

        Raises:
            ShapeError: n is below 1.
            ContextError: see `check_context`.
            ConfigError: an argument is out of range, or the prior has no temperature or no probabilities of codes.
        """
        c = as_context(c, self.config)
        if n is None:
            n = len(c) if c is not None and c.dim() else 1
        n = whole_number(n, "n", 1, error=ShapeError)
        context = self.check_context(c if c is None or c.dim() else c.expand(n), n)
        with seeded(seed, generator):
            prior = truncated(tempered(cast(Distribution, self.prior(context)), temperature), top_k, top_p)
            z = prior.sample(() if prior.batch_shape else (n,))
            return cast(Tensor, self.decoder(z, context).mean)

    def log_evidence(
        self,
        x: Tensor,
        c: Context | None = None,
        samples: int = 5000,
        seed: int | None = None,
        chunk: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Returns an importance-weighted lower bound on log p(x|c) for each example, (B,), nats.

        $\log \frac1K \sum_k p(x|z_k)\,p(z_k)/q(z_k|x)$ with K = `samples` (Burda et al., 2016,
        https://arxiv.org/abs/1509.00519): a stochastic lower bound that rises with K, computed in eval mode.

        Args:
            x: (B, *shape).
            c: as in `forward`.
            samples: K.
            seed: as in `sample`; the draws also depend on `chunk`.
            chunk: elements of x that are decoded at a time; None: what suits the device.
            generator: draws from it in place of a seed.

        Raises:
            NoDensityError: the posterior is a point mass in a continuous space.
            SupportError: x has no density under the likelihood, such as gray pixels under a Bernoulli.
        """
        return self.importance(x, c, samples, seed, chunk, generator)[0]

    @differentiable
    @torch.no_grad()
    def importance(
        self,
        x: Tensor,
        c: Context | None = None,
        samples: int = 5000,
        seed: int | None = None,
        chunk: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Returns `log_evidence`, (B,), nats, and the effective sample size of its K weights w, (B,).

        The effective sample size $(\sum_k w_k)^2 / \sum_k w_k^2$ lies between 1 and K; near 1, a single draw
        decides the estimate. It is K for a posterior whose draws are all equal. Arguments and exceptions are those of
        `log_evidence`.
        """
        x, c, dense = self._checked(x, c)
        if self.takes_unlabelled and c is not None:
            c = torch.zeros_like(c)  # a label would make it log p(x|c)
        samples = whole_number(samples, "samples", 1, error=ShapeError)
        if dense is not None:
            likelihood = cast(Likelihood, as_part(self.decoder).likelihood)
            raise SupportError(
                f"Got x to which the {type(likelihood).__name__} likelihood gives no density; expected "
                f"{likelihood.support}. `model(x)` still gives the losses."
            )
        on_cpu = x.device.type == "cpu"
        chunk = whole_number(chunk or (CHUNK if on_cpu else CHUNK_ON_GPU), "chunk", 1, error=ShapeError)
        # Many samples of few examples, since the encoder runs once for each example.
        rows = max(1, min(10 if on_cpu else 100, chunk // max(1, x[0].numel())))
        xs = x.split(rows)
        contexts = [None] * len(xs) if c is None else c.split(rows)
        with evaluating(self), seeded(seed, generator):
            pairs = [self._importance(*each, samples, chunk) for each in zip(xs, contexts, strict=True)]
        log_evidence, size = map(torch.cat, zip(*pairs, strict=True))
        return log_evidence, size

    def _importance(self, x: Tensor, c: Tensor | None, samples: int, chunk: int) -> tuple[Tensor, Tensor]:
        posterior, prior = cast(Distribution, self.encoder(x, c)), self.prior(c)
        if not has_density(posterior):
            raise NoDensityError(
                "Got a model whose posterior is a point mass in a continuous space; expected one that has a density. "
                "Compare distortions, or train another variant."
            )
        wanted, samples = samples, 1 if is_deterministic(posterior) else samples
        draws = max(1, chunk // max(1, x.numel()))
        total = x.new_full((len(x),), -torch.inf)
        squares = total.clone()
        for done in range(0, samples, draws):
            z, log_q = sample_with_log_prob(posterior, min(draws, samples - done))
            likelihood = self.decoder(z, c)
            drawn = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=likelihood)
            weights = drawn.log_weights()
            total = torch.logaddexp(total, weights.logsumexp(0))
            squares = torch.logaddexp(squares, (2.0 * weights).logsumexp(0))
        size = (2.0 * total - squares).exp().clamp(1.0, samples)  # rounding of large log weights
        return total - math.log(samples), size * (wanted / samples)

    def has_density(self, x: Tensor) -> bool:
        """Returns whether the likelihood is a density at all of validated `x` (B, *shape), and not only a loss."""
        likelihood = as_part(self.decoder).likelihood
        return likelihood is None or bool(likelihood.contains(x).all())

    def check(self, x: Tensor, c: Context | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns `x` and `c` on the model's device, in float32 or the model's wider type, `c` as vectors or None.

        Raises:
            ShapeError: wrong shape or type, or an empty batch.
            SupportError: NaN, infinite, or values that the likelihood cannot even take as a loss.
            ContextError: see `check_context`.
        """
        return self._checked(x, c)[:2]

    def _checked(self, x: Tensor, c: Context | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Returns `check(x, c)`, and which examples (B,) have a density; None for all, which takes one reduction."""
        # `x.shape[0]` and not `len(x)`, which torch.export takes for a constant.
        device, dtype = self._home()
        given = check_tensor(x, self.shape, device)
        x = given.to(device, dtype)
        likelihood = as_part(self.decoder).likelihood
        dense = torch.isfinite(x).flatten(1).all(1) if likelihood is None else likelihood.contains(x)
        if torch.compiler.is_compiling():  # a branch on values would end the graph
            return x, self.check_context(c, x.shape[0]), dense
        if bool(dense.all()):
            return x, self.check_context(c, x.shape[0]), None
        if likelihood is None or not bool(likelihood.accepts(x).all()):
            raise invalid_values(x, likelihood)
        if likelihood.mass and given.dtype in (torch.bfloat16, torch.float16):
            warn(
                f"Got x in {given.dtype}, to which the {type(likelihood).__name__} likelihood gives no probability; "
                f"expected {likelihood.support}. Floats of 16 bits are rounded: convert the pixels to float32 first."
            )
        return x, self.check_context(c, x.shape[0]), dense

    def _encodable(self, x: Tensor, c: Context | None) -> tuple[Tensor, Tensor | None]:
        """Returns `check(x, c)`, but without the likelihood's limits, unless the encoder itself uses the likelihood."""
        if as_part(self.encoder).uses_likelihood:
            return self.check(x, c)
        device, dtype = self._home()
        x = check_tensor(x, self.shape, device).to(device, dtype)
        if not torch.compiler.is_compiling() and not bool((x.abs() <= LARGEST_VALUE).all()):
            likelihood = as_part(self.decoder).likelihood
            if likelihood is None or not likelihood.gaps or not bool((x.isnan() | (x.abs() <= LARGEST_VALUE)).all()):
                raise invalid_values(x, None)
        return x, self.check_context(c, x.shape[0])

    def check_context(self, c: Context | None, rows: int) -> Tensor | None:
        """Returns the context as vectors (rows, context), or None for an unconditional model.

        Args:
            c: class indices (rows,), a tensor or a list, their names, or vectors (rows, context).
            rows: how many examples there are.

        Raises:
            ContextError: missing, unwanted, of the wrong shape, or class indices out of range.
        """
        c = as_context(c, self.config)
        if self.context:
            return context_vectors(c, rows, self.context, self.takes_unlabelled).to(*self._home())
        if c is not None and c.shape != (rows, 0):
            raise ContextError(f"Got a context of shape {tuple(c.shape)}; this model expected none. Leave c out.")
        return None

    @property
    def takes_unlabelled(self) -> bool:
        """Whether the context holds labels that may be missing: -1, or zeros in place of a one-hot vector."""
        return as_part(self.encoder).takes_unlabelled

    def _home(self) -> tuple[torch.device, torch.dtype]:
        tensor = next(chain(self.parameters(), self.buffers()), torch.zeros(()))
        # Densities of a model in half precision are computed in float32.
        return tensor.device, torch.promote_types(tensor.dtype, torch.float32)
