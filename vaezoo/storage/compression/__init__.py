"""Lossless compression of data with a model: bits-back coding with asymmetric numeral systems.

Each is imported when first used, so that the names import no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
