"""Figures of a model, as functions of it: evidence, latents, reconstructions; in nats unless a name says otherwise."""

from vaezoo.evaluation.evidence import Estimate, evidence
from vaezoo.evaluation.latents import active_units, perplexity
from vaezoo.evaluation.report import Report, evaluate

__all__ = ["Estimate", "Report", "active_units", "evaluate", "evidence", "perplexity"]
