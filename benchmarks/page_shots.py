"""Takes the pictures of a page that the README shows: its head, and an example's evidence.

    python -m benchmarks.page_shots results/reports/muse_mini.html

They go to docs/figures/report.png and report-evidence.png. It needs Chromium and the extra ``browser``
(``make test-browser`` installs both).
"""

import argparse
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from muse_eval.results.drawing import COLOURS, GREYS

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
WIDTH, HEIGHT = 1440, 1280
MOST = 256
"""Colours of a picture. A page has few: with as many the picture is half as large, and looks the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--example", default="verbmem_f/17", help="whose evidence is shown")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{given.page.absolute().as_uri()}")
        page.wait_for_selector("body[data-ready]")
        save("report.png", page.screenshot())
        page.goto(f"{given.page.absolute().as_uri()}#{given.example}")
        page.wait_for_timeout(1000)
        page.evaluate("document.querySelector('#evidence').scrollIntoView({behavior: 'instant'})")
        save("report-evidence.png", page.screenshot())
        browser.close()


def save(name: str, picture: bytes) -> None:
    """Write a picture with few colours, which makes it small; those of the models stay what they are."""
    whole = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    found, place, counts = np.unique(whole.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    kept = palette(found, counts)
    nearest = ((found[:, None].astype(int) - kept[None]) ** 2).sum(axis=2).argmin(axis=1)
    few = Image.fromarray(nearest[place.reshape(-1)].astype(np.uint8).reshape(whole.shape[:2]), "P")
    few.putpalette(kept.astype(np.uint8).tobytes())
    few.save(FIGURES / name, optimize=True)
    print(f"{FIGURES / name}: {(FIGURES / name).stat().st_size / 1000:.0f} kB")


def palette(found: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (MOST, 3): those of the models, then the most frequent, then median cuts of the others.

    Cuts alone would take the few pixels of a model's dot for its neighbour's.
    """
    models = [ImageColor.getrgb(one) for one in (*COLOURS, *GREYS.values())]
    often = found[np.argsort(-counts)[: MOST // 2]]
    kept = np.unique(np.vstack([models, often]), axis=0)
    others = np.repeat(found, np.minimum(counts, 50), axis=0)[None]
    cut = Image.fromarray(others).quantize(MOST - len(kept), dither=Image.Dither.NONE)
    rest = np.array(cut.getpalette()).reshape(-1, 3)[: MOST - len(kept)]
    return np.vstack([kept, rest]).astype(int)


if __name__ == "__main__":
    main()
