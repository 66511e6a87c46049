"""What splits are called, and the text columns of their rows."""

from typing import Annotated

from pydantic import AfterValidator

from muse_eval.reading import shown

OLDER_NAMES = {
    "knowmem/retain_qa": "knowmem/retain2_qa",
    "knowmem/retain_qa_icl": "knowmem/retain2_qa_icl",
}
"""What older revisions of MUSE-News call a split."""
MOST_NAME_BYTES = 200
"""Of a part of a split's name; file systems take 255, of which the ending takes some."""
COLUMNS = {"knowmem": ("question", "answer"), "verbmem": ("prompt", "gt")}
"""Text columns of a group of splits; every other group has the one column ``text``."""


def columns_of(split: str) -> tuple[str, ...]:
    """Return the text columns that a split's rows must have."""
    return COLUMNS.get(split.split("/")[0], ("text",))


def check_split_name(name: str) -> str:
    """Return the name of a split, ``group/name``: it is a file's place below a folder of data, and no other.

    Raises:
        ValueError: it is written otherwise, or names no place within the folder.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_is_plain(part) for part in parts):
        raise ValueError(f"a split is called group/name, as raw/forget is, not {shown(repr(name))}")
    return name


def _is_plain(part: str) -> bool:
    """Tell whether a folder or a file can be called so everywhere."""
    is_word = part.isprintable() and part.strip(". ") != "" and "\\" not in part
    return is_word and len(part.encode("utf-8", "replace")) <= MOST_NAME_BYTES


SplitName = Annotated[str, AfterValidator(check_split_name)]
