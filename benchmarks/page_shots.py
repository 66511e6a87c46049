"""Takes the pictures of a page that the README shows: its head, and an example's evidence.

    python -m benchmarks.page_shots results/reports/muse_mini.html

They go to docs/figures/report.png and report-evidence.png. It needs Chromium and the extra ``browser``
(``make test-browser`` installs both).
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
WIDTH, HEIGHT = 1440, 1280
COLOURS = 256
"""A page has few: with as many the picture is half as large, and looks the same."""


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
        save("report-evidence.png", page.screenshot())
        browser.close()


def save(name: str, picture: bytes) -> None:
    """Write a picture with few colours, which makes it small."""
    whole = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    whole.save(FIGURES / name, optimize=True)
    print(f"{FIGURES / name}: {(FIGURES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
