"""The stochastically quantized VAE."""

from vaezoo.core import VAE
from vaezoo.objectives import Cooling, Penalty
from vaezoo.quantization import RelaxedObjective, StochasticEncoder, UniformCodePrior, orthogonality, scaled_distance
from vaezoo.registry import Architecture, Codes, Fraction, Temperature, Weight, code_defaults, register


@register(
    "sq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes"},
    example={"codes": 16, "cooling": 0.01},
)
def sq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    distance: Weight = 1.0,
    orthogonal: Weight = 0.0,
    temperature: Temperature = 1.0,
    final_temperature: Temperature = 0.0625,
    cooling: Fraction = 1e-3,
) -> VAE:
    r"""Minimizes D + R and a distance, with each vector replaced by a code that is drawn by its distance.

    $$D + R + w \sum_n E_q \frac{\|y_n - e_v\|^2}{2 \sigma^2}, \qquad
        q(v|y_n) \propto e^{-\|y_n - e_v\|^2 / (2 \sigma^2)}, \qquad R = \sum_n \mathrm{KL}(q(v|y_n)\,\|\,1/V)$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes, which are learned by gradients.
        distance: $w \ge 0$, weight of the distance of encoder outputs $y$ to their codes; 1 in the paper.
        orthogonal: weight of the mean squared cosine of two codes (Shin et al., 2021).
        temperature: $\tau_0 > 0$ of relaxed draws (Gumbel-softmax), at the start.
        final_temperature: $\tau_{end} > 0$, the minimum.
        cooling: $r \ge 0$ per step in $\tau = \max(\tau_{end}, \tau_0 e^{-rt})$.

    The variance $\sigma^2$ is learned and falls during training, so that the choice becomes that of the nearest code
    without a schedule. In the paper $y$ is a latent, too, and the distance the continuous part of the divergence, whose
    noise its code leaves out; the bound reported here is that of the codes alone, which is exact: R is the divergence
    of their probabilities, in closed form, and the distance is no part of it. Relaxation and `code-prior` are as in
    `gumbel-vq-vae`. Use it instead of `vq-vae` without commitment, moving averages and revival.

    See also: `gumbel-vq-vae`, whose network gives the probabilities; `vq-vae`, the limit of a small variance.

    References: Takida et al. (2022), https://arxiv.org/abs/2205.07547
    """
    encoder = StochasticEncoder(architecture.down(1), architecture.latent, codes, final_temperature)
    penalties: dict[str, tuple[float, Penalty]] = {
        "distance": (distance, scaled_distance),
        "orthogonality": (orthogonal, orthogonality),
    }
    objective = RelaxedObjective(1.0, Cooling(temperature, final_temperature, cooling), penalties)
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=objective)
