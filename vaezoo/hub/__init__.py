"""The Hugging Face Hub: its client, the files of remote models and the local cache."""

from vaezoo.hub.cache import cached, remove, verify

__all__ = ["cached", "remove", "verify"]
