"""Tells which entries of ``muse_eval/same_code.json`` no longer hold; renews those that are named.

    python -m benchmarks.same_code
    python -m benchmarks.same_code engines scoring

An entry says that the code of one purpose (``own_code.CODE``, or a file that combines two models) computes
what an earlier version computed, under whose digest it is stored: caches, runs, models and trials of then are
taken for new ones. A move of definitions within a purpose, or a comment, leaves its entry as it is but for
the digest of its bytes, which is written here and by which a command knows the rest without parsing. After
any other change of that code the entry is void, and there are two ways on:

- Nothing that is computed changed (a definition renamed, split, moved in from elsewhere), and tests prove
  it: the oracle tests, ``tests/contract`` and ``tests/e2e/test_old_files.py`` give the same digits. Then name
  the entry here, in a commit of its own that says what was changed.
- Something can change an answer, a weight or a score, or nobody can tell: delete the entry. What is stored
  is then asked or trained again.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from muse_eval import own_code

PATH = Path(own_code.__file__).with_name(own_code.SAME)


def void(table: dict[str, dict[str, str]]) -> list[str]:
    """Return the entries whose code is not the one that they were made for."""
    return [name for name, entry in table.items() if entry["now"] != own_code.definitions_digest(name)]


def main(names: Sequence[str]) -> int:
    """Renew the named entries, and the bytes of those that hold.

    Returns:
        1 where others do not hold, 2 where a name is no entry's.
    """
    table = own_code.same_code()
    if unknown := [name for name in names if name not in table]:
        print(f"no entry: {', '.join(unknown)}; there are {', '.join(table)}", file=sys.stderr)
        return 2
    for name in names:
        table[name]["now"] = own_code.definitions_digest(name)
    left = void(table)
    for name in table.keys() - left:
        table[name]["files"] = own_code.bytes_digest(name)
    PATH.write_text(f"{json.dumps(table, indent=2)}\n", encoding="utf-8")
    for name in left:
        print(f"{name}: the code is not the one that the entry was made for")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
