"""Metrics of a model as functions, in nats unless stated otherwise. The public names are those of `__init__.pyi`.

Each is imported when first used, so that tables of stored metrics import no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
