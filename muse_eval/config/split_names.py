"""What splits are called, and the text columns of their rows."""

OLDER_NAMES = {
    "knowmem/retain_qa": "knowmem/retain2_qa",
    "knowmem/retain_qa_icl": "knowmem/retain2_qa_icl",
}
"""What older revisions of MUSE-News call a split."""
COLUMNS = {"knowmem": ("question", "answer"), "verbmem": ("prompt", "gt")}
"""Text columns of a group of splits; every other group has the one column ``text``."""


def columns_of(split: str) -> tuple[str, ...]:
    """Return the text columns that a split's rows must have."""
    return COLUMNS.get(split.split("/")[0], ("text",))
