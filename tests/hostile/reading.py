"""What the tests of the readers share."""

from collections.abc import Callable
from typing import Any

from muse_eval.errors import UserError


def or_one_line(read: Callable[[Any, str], Any], text: Any) -> Any:
    """Return what a text is read as; an error of one line where it is refused."""
    told = ""
    try:
        return read(text, "it")
    except UserError as error:
        told = str(error)
        return error
    finally:
        assert "\n" not in told
