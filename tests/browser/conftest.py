"""A real Chromium, and a page of runs written by hand; where there is none the tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.stored import write_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from transformers import PreTrainedTokenizerBase

HOW = "no Chromium to open the page in; `make test-browser` installs what is missing"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; where it must be there (BROWSER_REQUIRED), its absence fails."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        assert not os.environ.get("BROWSER_REQUIRED"), HOW
        pytest.skip(HOW)
    with sync_playwright() as driver:
        # Chromium refuses its sandbox to root.
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase) -> Path:
    """A page of three models."""
    return made(tmp_path_factory.mktemp("town"), tokenizer=tiny_tokenizer)


def made(results: Path, *arguments: Any, **options: Any) -> Path:
    """Write runs and their page."""
    from muse_eval.reports import report

    return report(results=write_runs(results, *arguments, **options)).path
