"""A small causal transformer with a key-value cache."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from vaezoo.core import full_precision
from vaezoo.errors import ConfigError
from vaezoo.networks.network import check_weights, normal_init

ROWS = 256  # sequences that are sampled together: their keys and values take a few MB

#: keys and values of the positions sampled so far, (rows, heads, N, width / heads) each
Cache = tuple[Tensor, Tensor]


class TransformerBlock(nn.Module):
    """Causal self-attention, then a perceptron of four times the width, each after a layer norm, with residuals.

    `scale`: standard deviation of the initial weights of the last layer of both.
    """

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.join, self.narrow):
            last.weight = nn.Parameter(normal_init(*last.weight.shape, scale=scale))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, N, width) of x (rows, N, width); no position depends on a later one."""
        q, k, v = self._split(x)
        return self._rest(x, scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: Tensor, cache: Cache, place: int) -> Tensor:
        """Returns (rows, 1, width) of x (rows, 1, width) at the position `place`, and adds it to the cache."""
        q, k, v = self._split(x)
        for kept, new in zip(cache, (k, v), strict=True):
            kept[:, :, place] = new[:, :, 0]
        keys, values = (kept[:, :, : place + 1] for kept in cache)
        return self._rest(x, scaled_dot_product_attention(q, keys, values))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, (rows, heads, N, width / heads) each."""
        # On a CPU the gradient of attention in bfloat16 takes several times as long as in float32.
        found = full_precision(self.attend(self.before(x)))
        q, k, v = found.unflatten(-1, (3, self.heads, -1)).movedim(-2, 1).unbind(-2)
        return q, k, v

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.join(attended.transpose(1, 2).flatten(2).to(x.dtype))
        out: Tensor = x + self.narrow(nn.functional.gelu(self.widen(self.between(x)), approximate="tanh"))
        return out


class CausalTransformer(nn.Module):
    """A decoder-only transformer: from sequences of indices to the logits of each, given those before it.

    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762. Initially all codes are equally likely. Each level of codes
    has its own embedding and its own last layer.

    Args:
        codes: V. sections: number of positions of each level, N in all. context: width of the context, 0 for none.
        width: of the hidden layers, a multiple of `heads`. depth: number of blocks. heads: of the attention.
    """

    def __init__(
        self, codes: int, sections: Sequence[int], context: int, *, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"Got width = {width} and heads = {heads}; expected a width that is a multiple of the heads."
            )
        self.codes, self.sections, self.length = codes, tuple(sections), sum(sections)
        levels = len(self.sections)
        check_weights("transformer", [12 * depth * width**2, 2 * levels * codes * width, self.length * width])
        self.embeddings = nn.Parameter(normal_init(levels, codes, width, scale=width**-0.5))
        self.places = nn.Parameter(normal_init(self.length, width, scale=width**-0.5))
        self.given = nn.Linear(context, width, bias=False) if context else None
        self.heads = heads
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, 0.02 / math.sqrt(2 * depth)) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.weights = nn.Parameter(torch.zeros(levels, codes, width))
        self.biases = nn.Parameter(torch.zeros(levels, codes))

    def forward(self, indices: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns logits (rows, N, V) of `indices` (rows, N), given c (rows, context)."""
        parts = indices.split(self.sections, 1)
        embedded = torch.cat([table[part] for table, part in zip(self.embeddings, parts, strict=True)], 1)
        # Shifted by one: the input of a position is the code of the one before it.
        x = self.places + nn.functional.pad(embedded[:, :-1], (0, 0, 1, 0))
        x = x if self.given is None else x + self._context(c)
        for block in self.blocks:
            x = block(x)
        parts = self.norm(x).split(self.sections, 1)
        layers = zip(parts, self.weights, self.biases, strict=True)
        return torch.cat([linear(part, weight, bias) for part, weight, bias in layers], 1)

    @torch.no_grad()
    def draw(self, rows: int, c: Tensor | None = None, changed: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Returns indices (rows, N) sampled one position after the other, given c (rows, context).

        `changed` maps logits (rows, V) to those that are drawn from, such as logits divided by a temperature. Keys and
        values of earlier positions are kept, so that each position is passed once.
        """
        if rows > ROWS:
            given = [None] * -(-rows // ROWS) if c is None else list(c.split(ROWS))
            counts = torch.arange(rows).split(ROWS)
            return torch.cat([self.draw(len(count), each, changed) for count, each in zip(counts, given, strict=True)])
        weight = self.places
        shape = (rows, self.heads, self.length, weight.shape[1] // self.heads)
        dtype = full_precision(weight).dtype
        caches = [(weight.new_empty(shape, dtype=dtype), weight.new_empty(shape, dtype=dtype)) for _ in self.blocks]
        levels = torch.arange(len(self.sections)).repeat_interleave(torch.tensor(self.sections)).tolist()
        found = torch.empty(rows, self.length, dtype=torch.int64, device=weight.device)
        for place, level in enumerate(levels):
            x = weight[place].expand(rows, 1, -1)
            x = x + self.embeddings[levels[place - 1]][found[:, place - 1 : place]] if place else x
            x = x if self.given is None else x + self._context(c)
            for block, cache in zip(self.blocks, caches, strict=True):
                x = cast(TransformerBlock, block).step(x, cache, place)
            logits = full_precision(linear(self.norm(x)[:, 0], self.weights[level], self.biases[level]))
            logits = logits if changed is None else changed(logits)
            found[:, place] = torch.multinomial(logits.softmax(-1), 1)[:, 0]
        return found

    def _context(self, c: Tensor | None) -> Tensor:
        assert c is not None and self.given is not None
        embedded: Tensor = self.given(c.to(self.given.weight.dtype))
        return embedded.unsqueeze(1)
