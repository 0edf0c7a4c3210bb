"""Deprecated name; see `vaezoo.errors.deprecated_module`."""

from vaezoo.errors import deprecated_module

__getattr__ = deprecated_module(
    __name__,
    "vaezoo.objectives",
    Game="AdversarialObjective",
    accuracy="critic_accuracy",
    logit="critic_logit",
    separation="critic_loss",
)
