r"""Posteriors moved by Hamiltonian dynamics towards high joint density.

$$\rho \leftarrow \rho + \tfrac{\epsilon}{2} \nabla_z \log p(x, z), \qquad z \leftarrow z + \epsilon \odot \rho, \qquad
    \rho \leftarrow \alpha \big(\rho + \tfrac{\epsilon}{2} \nabla_z \log p(x, z)\big)$$
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vaezoo.core import as_built, outside_inference_mode, traced_gradient
from vaezoo.distributions.joint_sampling import JointlyDrawn, sum_event
from vaezoo.distributions.normal import DiagonalNormal


class HamiltonianPosterior(JointlyDrawn):
    r"""A normal, moved by leapfrog steps with tempering (Caterini et al., 2018, https://arxiv.org/abs/1805.11328).

    Its momenta are auxiliary variables: in place of a log density it gives the log ratio of the whole chain, so that
    $\log p(x, z_K)$ minus the ratio is an unbiased log-weight.

    Args:
        base: the normal that z starts from, with batch shape (B,).
        log_joint: maps z (..., B, *latent) to log p(x, z), (..., B), each a function of its own z.
        step: ε, (*latent).
        cooling: $1/\alpha_k \ge 1$ for each of the K steps, (K,); their product scales the first momenta.
    """

    knows_density = False

    def __init__(
        self, base: DiagonalNormal, log_joint: Callable[[Tensor], Tensor], step: Tensor, cooling: Tensor
    ) -> None:
        self.base, self.log_joint, self.step, self.cooling = base, log_joint, step, cooling
        super().__init__(base.batch_shape, base.event_shape)

    @property
    @as_built
    def center(self) -> Tensor:
        """The end of the trajectory from the normal's mean without momentum, (B, *latent)."""
        return self.move(self.base.loc, torch.zeros_like(self.base.loc))[0]

    @as_built
    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, *latent) and log q(z₀) + log N(ρ₀) - log |det| - log N(ρ_K), (*sample, B), nats."""
        z, log_q = self.base.rsample_and_log_prob(sample_shape)
        noise = torch.randn_like(z)
        # The volume lost by cooling cancels the scale of the first momenta; a ratio of two N(0, 1) is left.
        z, momentum = self.move(z, noise * self.cooling.prod())
        return z, log_q + sum_event(0.5 * (momentum.square() - noise.square()), self.base.event_dims)

    def move(self, z: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """Returns latents and momenta after the leapfrog steps, (..., B, *latent) each."""
        slope = self.slope(z)
        for cooling in self.cooling:
            momentum = momentum + 0.5 * self.step * slope
            z = z + self.step * momentum
            slope = self.slope(z)
            momentum = (momentum + 0.5 * self.step * slope) / cooling
        return z, momentum

    def slope(self, z: Tensor) -> Tensor:
        """Returns the gradient of the log joint density, also under `torch.no_grad` and `torch.inference_mode`."""
        if torch.compiler.is_compiling():
            return traced_gradient(lambda each: self.log_joint(each).sum(), z)
        keep = torch.is_grad_enabled()
        with outside_inference_mode(), torch.enable_grad():
            z = z.clone() if z.is_inference() else z
            z = z if z.requires_grad else z.detach().requires_grad_()
            return torch.autograd.grad(self.log_joint(z).sum(), z, create_graph=keep)[0]
