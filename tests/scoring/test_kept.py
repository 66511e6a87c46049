"""What is kept beside the answers is read again, and nothing damaged is."""

from __future__ import annotations

from pathlib import Path

import pytest

from muse_eval.scoring.cache import cache_info
from muse_eval.scoring.kept import MODEL_FREE, keep, kept

KEY = {"texts": "abc"}
FOUND = {"words": {"auc": 0.5, "ci": [0.4, 0.6]}, "length": None}


def test_what_is_kept_is_found_by_its_key_alone(tmp_path: Path) -> None:
    told: list[str] = []
    assert kept(tmp_path, MODEL_FREE, KEY, told.append) is None
    keep(tmp_path, MODEL_FREE, KEY, FOUND)
    assert kept(tmp_path, MODEL_FREE, KEY, told.append) == FOUND
    assert kept(tmp_path, MODEL_FREE, {"texts": "abd"}, told.append) is None
    assert (told, cache_info(tmp_path, told.append)) == ([], [])


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    keep(None, MODEL_FREE, KEY, FOUND)
    assert kept(None, MODEL_FREE, KEY, lambda _: None) is None
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", [("0.5", "0.9"), ("abc", "xyz"), ("}", "")], ids=["value", "key", "cut"])
def test_a_damaged_entry_is_told_and_counts_for_none(change: tuple[str, str], tmp_path: Path) -> None:
    told: list[str] = []
    keep(tmp_path, MODEL_FREE, KEY, FOUND)
    (place,) = (tmp_path / MODEL_FREE).iterdir()
    place.write_text(place.read_text().replace(*change))
    assert kept(tmp_path, MODEL_FREE, KEY, told.append) is None
    (line,) = told
    assert "it is computed again" in line
