"""What transformers does twice while it is loaded."""

import sys
from functools import lru_cache
from typing import Any


def remember_folders() -> None:
    """Let transformers read the folders of its models once: it remembers 128 of 500, and reads them twice."""
    utils: Any = sys.modules["transformers.utils.import_utils"]
    read: Any = getattr(utils, "create_import_structure_from_path", None)
    if hasattr(read, "cache_parameters") and read.cache_parameters()["maxsize"] is not None:
        utils.create_import_structure_from_path = lru_cache(maxsize=None)(read.__wrapped__)
