"""The `VAE` module, what it reports (`Inference`, `ELBO`) and the base classes of its parts."""

from vaezoo.core.device import choose_device
from vaezoo.core.elbo import ELBO, Inference, center, has_closed_form_rate, sample_with_log_prob
from vaezoo.core.model import VAE
from vaezoo.core.part import Model, Objective, Part
from vaezoo.core.random import seeded

__all__ = [
    "ELBO",
    "VAE",
    "Inference",
    "Model",
    "Objective",
    "Part",
    "center",
    "choose_device",
    "has_closed_form_rate",
    "sample_with_log_prob",
    "seeded",
]
