"""Loading and publishing models: bundled, in folders, on the Hugging Face Hub."""

from vaezoo.hub.cached import cached, remove, verify
from vaezoo.hub.loading import load, locate, pull
from vaezoo.hub.publishing import push

__all__ = ["cached", "load", "locate", "pull", "push", "remove", "verify"]
