"""The only training loop: any variant, any number of players and stages.

Order of images and noise are functions of (seed, step, micro-batch), so that a run that was stopped goes on as if it
had not been.
"""

from vaezoo.core import choose_device
from vaezoo.trainer.loop import Trainer
from vaezoo.trainer.run import Run
from vaezoo.trainer.start import build_model
from vaezoo.trainer.validation import held_out_figures

__all__ = ["Run", "Trainer", "build_model", "choose_device", "held_out_figures"]
