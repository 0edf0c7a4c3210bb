"""The Hugging Face Hub: its client, the files of remote models and the local cache."""

from vaezoo.hub.cache import list_cached, remove, verify

__all__ = ["list_cached", "remove", "verify"]
