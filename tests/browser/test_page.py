"""The page in a real Chromium: it asks for nothing, sorts, links, marks, prints, and runs nobody's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muse_eval.reports import report
from tests.browser.conftest import made
from tests.reports.test_probes import write_all
from tests.reports.test_report import HOSTILE
from tests.support.stored import TEXTS, TRUE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]
pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Open a page; at the end it must have asked for nothing but itself and have complained of nothing."""
    contexts: list[Any] = []
    seen: list[tuple[str, list[str], list[str]]] = []

    def visit(path: Path, link: str = "", *, scripts: bool = True, **options: Any) -> Page:
        context = browser.new_context(java_script_enabled=scripts, **options)
        contexts.append(context)
        page = context.new_page()
        requests: list[str] = []
        complaints: list[str] = []
        seen.append((path.as_uri(), requests, complaints))
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri() + link)
        if scripts:
            page.wait_for_selector("body[data-ready]")
        return page

    yield visit
    for context in contexts:
        context.close()
    for address, requests, complaints in seen:
        assert set(requests) == {address}
        assert complaints == []


def rows(page: Page) -> list[str]:
    return [str(one).strip() for one in page.locator("#table tbody th").all_inner_texts()]


def listed(page: Page) -> list[str]:
    return [str(one) for one in page.locator(".list .id").all_inner_texts()]


def await_heading(page: Page, text: str) -> None:
    """Wait until an example of this heading is shown; the policy forbids to wait by an expression."""
    page.locator(".example h3").filter(has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def heading(page: Page) -> str:
    return str(page.locator(".example h3").first.inner_text())


# ── table ────────────────────────────────────────────────────────────────────────────────────────
def test_the_table_is_sorted_by_mouse_and_by_keyboard(town: Path, opened: Open) -> None:
    page = opened(town)
    assert rows(page) == ["target", "retrain", "npo"]
    button = page.get_by_role("button", name="VerbMem Df ↓")
    button.click()
    first = rows(page)
    assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert first[-1] == "target"
    button.press("Enter")
    assert rows(page) == first[::-1]
    page.get_by_role("button", name="model").click()
    assert rows(page) == ["npo", "retrain", "target"]


def test_table_and_results_are_saved_from_the_page(town: Path, opened: Open) -> None:
    page = opened(town)
    for label, head in (("Table as CSV", "task,name,model"), ("All results as JSON", "{")):
        with page.expect_download() as saved:
            page.get_by_text(label).click()
        assert Path(saved.value.path()).read_text(encoding="utf-8").startswith(head)


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────
def test_an_example_has_a_link_of_its_own_and_the_way_back_works(town: Path, opened: Open) -> None:
    page = opened(town, "#verbmem_f/2")
    assert heading(page) == "VerbMem Df, example 2"
    page.locator(".list a", has_text="prompt 0").click()
    await_heading(page, "VerbMem Df, example 0")
    assert page.url.endswith("#verbmem_f/0")
    page.get_by_role("link", name="PrivLeak", exact=True).click()
    await_heading(page, "PrivLeak, example 0")
    page.go_back()
    await_heading(page, "VerbMem Df, example 0")
    page.go_back()
    await_heading(page, "VerbMem Df, example 2")
    page.goto(town.as_uri() + "#privleak/privleak/holdout/1")
    await_heading(page, "PrivLeak, example 1, privleak/holdout")


@pytest.mark.parametrize(
    "link", ["#nothing/3", "#verbmem_f/99", "#%zz/1", "#verbmem_f/1@nobody", "#<script>/1"]
)
def test_a_link_that_leads_nowhere_does_no_harm(town: Path, opened: Open, link: str) -> None:
    assert heading(opened(town, link)).startswith("VerbMem Df, example ")


def test_examples_are_ordered_filtered_and_searched(town: Path, opened: Open) -> None:
    """npo says 'the mill', 'ships' and nothing: F1 4/10, 2/9, 0; retrain 0, 4/10, 4/7."""
    page = opened(town)
    assert listed(page) == ["0", "1", "2"]
    page.select_option("#order", "best")
    assert listed(page) == ["2", "1", "0"]
    page.select_option("#order", "retrain")
    assert listed(page) == ["0", "1", "2"]
    page.select_option("#order", "disagreement")
    assert listed(page) == ["0", "2", "1"]
    page.select_option("#order", "number")
    page.select_option("#filter", "beyond")
    assert listed(page) == ["0"]
    page.select_option("#filter", "")
    page.fill("#search", "ANCHOR")
    assert listed(page) == ["1"]
    assert heading(page) == "VerbMem Df, example 1"
    page.fill("#search", "no such words")
    assert page.locator(".count").inner_text() == "0 of 3 examples"


def test_what_rouge_counted_is_marked_in_truth_and_response(town: Path, opened: Open) -> None:
    page = opened(town, "#verbmem_f/0")
    side = page.locator(".side", has=page.locator(".name", has_text="npo"))
    assert side.locator(".truth mark").all_inner_texts() == ["the", "mill"]
    assert side.locator(".response mark").all_inner_texts() == ["the", "mill"]
    assert side.locator(".sum").inner_text() == "ROUGE-L 0.4000 = 2 × 2 / (8 + 2 words)"
    page.goto(town.as_uri() + "#verbmem_f/2")
    await_heading(page, "VerbMem Df, example 2")
    assert side.locator(".response").inner_text() == "empty"


def test_tokens_are_shaded_and_those_that_min_k_counted_underlined(town: Path, opened: Open) -> None:
    page = opened(town, "#privleak/1")
    side = page.locator(".side", has=page.locator(".name", has_text="npo"))
    assert side.locator(".tokens").inner_text() == TEXTS[1]
    tokens, counted = side.locator(".token").count(), side.locator(".token.counted").count()
    assert counted == int(0.4 * tokens) > 0
    assert "of 4 texts, the likeliest first" in side.locator(".sum").inner_text()
    assert side.locator(".token").first.get_attribute("title").startswith("log p = −")


def test_models_are_taken_away_and_put_back(town: Path, opened: Open) -> None:
    page = opened(town)
    assert page.locator(".side .name").all_inner_texts() == ["target", "retrain", "npo"]
    page.get_by_label("target").uncheck()
    assert page.locator(".side .name").all_inner_texts() == ["retrain", "npo"]
    page.get_by_label("target").check()
    assert page.locator(".side .name").all_inner_texts() == ["target", "retrain", "npo"]


def test_a_dot_of_a_picture_leads_to_its_example(town: Path, opened: Open) -> None:
    page = opened(town)
    page.locator("#picture-scores-knowmem_r a[href='#knowmem_r/2@npo']").click(force=True)
    await_heading(page, "KnowMem Dr, example 2")


def test_all_of_it_works_by_keyboard(town: Path, opened: Open) -> None:
    page = opened(town)
    assert page.evaluate("window.scrollY") == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.list') !== null"):
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    await_heading(page, "VerbMem Df, example 1")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    await_heading(page, "VerbMem Df, example 2")


def test_the_example_behind_a_probe_s_verdict_is_one_click_away(opened: Open, tmp_path: Path) -> None:
    page = opened(report(results=write_all(tmp_path)).path)
    page.locator("#probes a[href*='hider']").click()
    page.locator(".side .name", has_text="retrain+relearn:20").wait_for()
    shown = ["retrain", "hider", "hider+relearn:20", "retrain+relearn:20"]
    assert page.locator(".side .name").all_inner_texts() == shown
    page.get_by_label("retrain+relearn:20").click()
    assert page.locator(".side .name").all_inner_texts() == shown[:3]
    assert page.get_by_label("retrain+relearn:20").count() == 0


# ── other people's text ──────────────────────────────────────────────────────────────────────────
def test_hostile_text_is_text(opened: Open, tmp_path: Path) -> None:
    said = {"target": HOSTILE, "retrain": HOSTILE[::-1], "npo": HOSTILE}
    page = opened(made(tmp_path, said, truths=HOSTILE), "#verbmem_f/0")
    title = page.title()
    for number, text in enumerate(HOSTILE):
        page.goto(page.url.partition("#")[0] + f"#verbmem_f/{number}")
        await_heading(page, f"VerbMem Df, example {number}")
        shown = (
            page.locator(".side", has=page.locator(".name", has_text="npo")).locator(".response").inner_text()
        )
        spelled = "".join(one if one.isprintable() else f"U+{ord(one):04X}" for one in text)
        assert shown.replace(" ", "") == spelled.replace(" ", "")
    assert page.title() == title
    assert page.locator("#evidence img, #evidence script").count() == 0


def test_the_policy_holds_even_if_we_slip(browser: Browser, town: Path) -> None:
    page = browser.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.goto(town.as_uri())
    page.wait_for_selector("body[data-ready]")
    page.evaluate("""document.body.insertAdjacentHTML("beforeend",
        "<img src='https://example.invalid/x.png' onerror='document.title = 1'><p style='color:red'>")""")
    page.evaluate("""const script = document.createElement("script");
        script.textContent = "document.title = 'owned'"; document.body.append(script)""")
    page.wait_for_timeout(200)
    assert page.title().startswith("Town")
    assert len([one for one in told if "Content Security Policy" in one]) >= 4
    page.close()


def test_two_megabytes_of_one_word_open(opened: Open, tmp_path: Path) -> None:
    path = made(tmp_path, {**TRUE, "npo": ["word" * 500_000, "", ""]})
    page = opened(path, "#verbmem_f/0")
    assert "characters more stand in records.jsonl" in page.locator(".response").last.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


# ── other ways to read it ────────────────────────────────────────────────────────────────────────
def test_without_scripts_verdicts_table_and_pictures_are_there(town: Path, opened: Open) -> None:
    page = opened(town, scripts=False)
    assert rows(page) == ["target", "retrain", "npo"]
    assert page.locator(".card").count() == 3
    assert page.locator("figure svg").count() >= 5
    assert "muse-eval show town/NAME" in page.locator("#evidence").inner_text()


def test_printed_all_examples_are_open(town: Path, opened: Open) -> None:
    page = opened(town)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".paper .example:visible").count() == 3
    assert page.locator(".facts:visible").count() == 3
    assert page.locator(".desk:visible, .panel:visible").count() == 0
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".paper").count() == 0
    assert len(page.pdf()) > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(
    town: Path, opened: Open, width: int, scheme: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(town, "#privleak/0", viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    # The policy lets no script in but the page's own: axe goes in past it, as the tests' own evaluations do.
    found = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
