"""The training loop for every variant, with any number of players and stages.

The order of images and the noise are functions of (seed, step, micro-batch), so that an interrupted run resumes
exactly.
"""

from vaezoo.core import choose_device
from vaezoo.trainer.loop import Run, Trainer
from vaezoo.trainer.setup import build_model
from vaezoo.trainer.validation import held_out_figures

__all__ = ["Run", "Trainer", "build_model", "choose_device", "held_out_figures"]
