"""The regularized autoencoder with a penalty on the decoder's weights."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives.autoencoders import ParameterPenaltyObjective, decoder_weights, half_squared_norm
from vaezoo.registry import Architecture, Weight, register


@register("rae-l2", changes=("encoder", "objective"), rate="no density", codes_follow_prior=False)
def rae_l2(base: VAE, architecture: Architecture, *, beta: Weight = 1e-2, weight: Weight = 1e-4) -> VAE:
    r"""Minimizes distortion plus penalties on codes and on the decoder's weights; the encoder is deterministic.

    $$D + \beta\,\tfrac12 \|z\|^2 + \lambda\,\|\theta\|^2, \qquad
        z = f(x), \qquad \theta \text{ the decoder's parameters}$$

    Hyperparameters:
        beta: $\beta \ge 0$, weight of the squared norm of codes.
        weight: $\lambda \ge 0$, weight of the squared norm of the decoder's parameters. The paper searches both for
            each data set and uses the squared error as D: `likelihood = {name = "gaussian", scale = 0.7071}`, up to a
            constant.

    The penalty is a term of the loss, as in the paper, which differs from weight decay in Adam. There is no density of
    z and so no bound; the reported rate is $-\log p(z)$. `sample` draws from N(0, 1), which the codes need not follow.
    Use it for sharp images, with a density fitted to the codes afterwards.

    See also: `rae-gp`, which penalizes the decoder's slope; `beta-vae` with a small $\beta$.

    References: Ghosh et al. (2020), https://arxiv.org/abs/1903.12436
    """
    penalties = {"half_square": (beta, half_squared_norm), "decoder_weights": (weight, decoder_weights)}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=ParameterPenaltyObjective(penalties))
