"""Loading and publishing models: bundled, in folders, on the Hugging Face Hub."""

from vaezoo.hub.loading import load, locate
from vaezoo.hub.publishing import push

__all__ = ["load", "locate", "push"]
