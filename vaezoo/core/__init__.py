"""The `VAE` module, what it reports (`Inference`, `ELBO`) and the base classes of its parts."""

from vaezoo.core.checks import LARGEST_VALUE, as_context, as_number, check_tensor, class_names, whole_number, whole_seed
from vaezoo.core.description import headline
from vaezoo.core.device import choose_device, fast_bfloat16, full_precision, widest
from vaezoo.core.elbo import ELBO, Inference, closed_form_rate
from vaezoo.core.latents import LATENTS
from vaezoo.core.memory import rows_at_once
from vaezoo.core.model import VAE
from vaezoo.core.modes import check_model, differentiable, evaluating, learning, outside_inference_mode, traced_gradient
from vaezoo.core.optional_import import require
from vaezoo.core.part import (
    PARTS,
    Context,
    Likelihood,
    Model,
    Objective,
    Part,
    as_part,
    network_inputs,
    require_vector_latent,
)
from vaezoo.core.paths import cache_root, expanded, public_name
from vaezoo.core.posterior import (
    ACTIVE_VARIANCE,
    Posterior,
    SampleOptions,
    Temperable,
    as_built,
    center,
    code_indices,
    exact_mean,
    has_density,
    is_deterministic,
    mean_or_center,
    responsibilities,
    sample_with_log_prob,
)
from vaezoo.core.random import Seeded, seeded
from vaezoo.core.weights import add_to_digest, all_finite, published_state, weights_digest

__all__ = [
    "ACTIVE_VARIANCE",
    "ELBO",
    "LARGEST_VALUE",
    "LATENTS",
    "PARTS",
    "VAE",
    "Context",
    "Inference",
    "Likelihood",
    "Model",
    "Objective",
    "Part",
    "Posterior",
    "SampleOptions",
    "Seeded",
    "Temperable",
    "add_to_digest",
    "all_finite",
    "as_built",
    "as_context",
    "as_number",
    "as_part",
    "cache_root",
    "center",
    "check_model",
    "check_tensor",
    "choose_device",
    "class_names",
    "closed_form_rate",
    "code_indices",
    "differentiable",
    "evaluating",
    "exact_mean",
    "expanded",
    "fast_bfloat16",
    "full_precision",
    "has_density",
    "headline",
    "is_deterministic",
    "learning",
    "mean_or_center",
    "network_inputs",
    "outside_inference_mode",
    "public_name",
    "published_state",
    "require",
    "require_vector_latent",
    "responsibilities",
    "rows_at_once",
    "sample_with_log_prob",
    "seeded",
    "traced_gradient",
    "weights_digest",
    "whole_number",
    "whole_seed",
    "widest",
]
