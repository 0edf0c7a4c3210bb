r"""The entropic optimal transport of a batch of encoder outputs to a table of codes.

$$W_\epsilon = \sum_{nv} P_{nv} \|y_n - e_v\|^2, \qquad
    P = \arg\min_P \sum_{nv} P_{nv} \|y_n - e_v\|^2 - \epsilon H(P), \qquad
    \sum_v P_{nv} = 1/R, \quad \sum_n P_{nv} = 1/V$$
"""

import math
from typing import cast

import torch
from torch import Tensor

from vaezoo.core import Inference, Model, full_precision
from vaezoo.quantization.codebook import rows_of
from vaezoo.quantization.codes import CodePoint
from vaezoo.quantization.table import CodeTable

ITERATIONS = 20  # of the two scalings
ROWS = 1024  # vectors of a batch that are transported


def transport_plan(cost: Tensor, entropy: float, iterations: int = ITERATIONS) -> Tensor:
    """Returns the plan (R, V) with rows that sum to 1/R and columns to about 1/V, for a cost (R, V).

    Args:
        cost: cost of each pair, detached.
        entropy: the weight of the entropy, as a share of the mean cost.
        iterations: of Sinkhorn's algorithm; smaller weights need more of them until the sums of columns are right.

    The iterations are those of the logarithms (Cuturi, 2013, https://arxiv.org/abs/1306.0895).
    """
    rows, columns = cost.shape
    logits = -cost / (entropy * cost.mean()).clamp(min=torch.finfo(cost.dtype).tiny)
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0, keepdim=True) - math.log(columns)
        logits = logits - logits.logsumexp(1, keepdim=True) - math.log(rows)
    return logits.exp()


def transport_distance(model: Model, inference: Inference, entropy: float) -> Tensor:
    r"""Returns $N W_\epsilon$ of the batch's encoder outputs to all codes, 0-dim, N being the number of positions.

    The gradient is that of the cost at the plan. At most `ROWS` vectors are used, drawn at random.
    """
    encoded = cast(CodePoint, inference.posterior).encoded
    rows, table = rows_of(full_precision(encoded)), cast(CodeTable, model.encoder).table()
    if len(rows) > ROWS:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:ROWS]]
    with torch.autocast(rows.device.type, enabled=False):
        cost = torch.cdist(rows, table.to(rows.dtype), compute_mode="donot_use_mm_for_euclid_dist").square()
        return math.prod(encoded.shape[2:]) * (transport_plan(cost.detach(), entropy) * cost).sum()
