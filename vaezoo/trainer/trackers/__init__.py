"""Where metrics go besides `metrics.jsonl`: one small hook, the progress bar, and the services that go by a name."""

from vaezoo.trainer.trackers.bar import Bar
from vaezoo.trainer.trackers.hook import Tracker, Trackers
from vaezoo.trainer.trackers.named import NAMES, chosen_trackers
from vaezoo.trainer.trackers.services import Service, TensorBoard, Trackio, WandB

__all__ = ["NAMES", "Bar", "Service", "TensorBoard", "Tracker", "Trackers", "Trackio", "WandB", "chosen_trackers"]
