from .codec import Compressed as Compressed
from .codec import Restored as Restored
from .codec import compress as compress
from .codec import decompress as decompress
