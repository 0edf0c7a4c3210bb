"""Trackers receive the metrics of a run: the progress bar, TensorBoard, Trackio, Weights & Biases, or your own."""

from vaezoo.trainer.trackers.bar import Bar
from vaezoo.trainer.trackers.tensorboard import TensorBoard
from vaezoo.trainer.trackers.trackio import Trackio
from vaezoo.trainer.trackers.wandb import WandB
from vaezoo.trainer.tracking import Service, Tracker, Trackers, chosen_trackers, trackers

__all__ = ["Bar", "Service", "TensorBoard", "Tracker", "Trackers", "Trackio", "WandB", "chosen_trackers", "trackers"]
