"""The VAE with stochastic codes, relaxed in training."""

from vaezoo.core import VAE
from vaezoo.objectives import Cooling
from vaezoo.quantization import GumbelEncoder, RelaxedObjective, UniformCodePrior
from vaezoo.registry import Architecture, Codes, Fraction, Temperature, Weight, code_defaults, register


@register(
    "gumbel-vq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes"},
    example={"codes": 16, "beta": 0.1, "cooling": 0.01},
)
def gumbel_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    beta: Weight = 1.0,
    temperature: Temperature = 1.0,
    final_temperature: Temperature = 0.0625,
    cooling: Fraction = 1e-3,
) -> VAE:
    r"""Minimizes D + β·R with a stochastic code at each position, relaxed in training (Gumbel-softmax).

    $$z_n = \sum_v y_{nv}\, e_v, \quad y_n = \mathrm{softmax}\big((\log \pi_n(x) + g) / \tau\big), \quad
        R = \sum_n \mathrm{KL}(\pi_n(x)\,\|\,1/V)$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes, which are learned by gradients.
        beta: $\beta \ge 0$; 6.6 in the paper, for larger images.
        temperature: $\tau_0 > 0$, at the start.
        final_temperature: $\tau_{end} > 0$, the minimum; 1/16 in the paper.
        cooling: $r \ge 0$ per step in $\tau = \max(\tau_{end}, \tau_0 e^{-rt})$.

    The rate is that of the categories, in closed form; with `code-prior` it is sampled, and the prior is best trained
    in a stage that does not train the encoder. In train mode z is relaxed, and bound and distortion are estimates; in
    eval mode z is exactly a code, with its probability. Use it for codes with probabilities, without moving averages.

    See also: `vq-vae`, whose encoder chooses the nearest code; `categorical-vae`, whose categories are one-hot vectors.

    References: Ramesh et al. (2021), https://arxiv.org/abs/2102.12092
    """
    latent, shape = architecture.latent, architecture.shape
    network = architecture.network().down(shape, (1, codes, *latent[1:]), architecture.context)
    encoder = GumbelEncoder(network, latent, codes, final_temperature)
    objective = RelaxedObjective(beta, Cooling(temperature, final_temperature, cooling))
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=objective)
