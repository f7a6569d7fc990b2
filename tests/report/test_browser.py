"""The page in a real browser: it draws itself, every key does what it says, and ten thousand steps are not too many.

Skipped where there is no browser: they need the `browser` extra (playwright's Python package) and a Chromium, either
the system's (``apt-get install chromium``) or playwright's own (``playwright install chromium``).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.report.test_html import NASTY, nasty_log

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="no playwright to drive a browser with: pip install '.[browser]'"
)

pytestmark = pytest.mark.slow

SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OPEN_MAX_SECONDS = 3.0
STEP_MAX_MILLISECONDS = 100.0

STEP_TIMES = """async () => {
  const times = [];
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let round = 0; round < 30; round++) {
    const begin = performance.now();
    press(round % 10 === 9 ? "PageDown" : "ArrowRight");
    await painted();
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b);
}"""
"""How long it takes from a key until the page has been drawn; other work on the machine makes single ones longer."""


@dataclass
class Tab:
    """A page that is open, and what the browser had to say about it."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.page.inner_text(selector))

    def press(self, *keys: str) -> None:
        """Type keys, and wait until the page has been drawn."""
        for key in keys:
            self.page.keyboard.press(key)
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    @property
    def step(self) -> str:
        """The selected step."""
        return self.text("#where").partition(" ")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    system = next(filter(None, map(shutil.which, SYSTEM)), None)
    with playwright_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except playwright_api.Error as error:
            pytest.skip(f"no Chromium can be started ({str(error).splitlines()[0]}): apt-get install chromium")
        yield started
        started.close()


@pytest.fixture
def visit(browser) -> Iterator[Any]:
    """Open a page; whatever the browser complains of fails the test in the end."""
    tabs: list[Tab] = []

    def go(file: Path, scheme: str = "light", width: int = 1280) -> Tab:
        tab = Tab(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
        tab.page.on("console", lambda message: tab.complaints.append(message.text))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on("request", lambda request: tab.complaints.extend([request.url] * (request.url[:4] == "http")))
        tab.page.on("dialog", lambda dialog: (tab.complaints.append(dialog.message), dialog.dismiss()))
        tabs.append(tab)
        tab.page.goto(file.as_uri())
        tab.page.wait_for_selector("html[data-ready]")
        return tab

    yield go
    for tab in tabs:
        assert tab.complaints == []
        tab.page.close()


@pytest.fixture
def tab(visit, page_of, finding) -> Tab:
    """The page of a finding."""
    return visit(page_of(finding))


def test_the_page_of_a_finding_draws_every_part(tab):
    assert tab.text("h1") == "dead-cache/rmdir-races-last-free under v5"
    assert "ODEBUG: free active" in tab.text("#message")
    assert tab.page.locator("#race-table tbody tr").count() == 12
    assert tab.page.locator("#canvas rect.box").count() >= 10
    assert tab.page.locator("#canvas .arrow").count() > 0
    assert tab.page.locator("#curves figure").count() >= 4
    assert tab.page.locator("#caches-table tbody tr").count() == 2
    assert "300" in tab.text("#search")


def test_a_finding_opens_at_the_step_that_broke(tab):
    assert tab.step == "#32"
    assert "Here it breaks." in tab.text("#state")
    assert tab.page.locator("#rows .row[aria-selected=true]").inner_text().endswith("dentry(1:web).params")


def test_stepping_changes_the_state_panel(tab):
    tab.press("Home")
    assert tab.step == "#0"
    before = tab.text("#state")
    tab.press("ArrowRight", "ArrowRight")
    assert tab.step == "#2"
    assert "params->dead = true" in tab.text("#state")
    assert tab.text("#state") != before
    assert "dead" in tab.text("#caches-table td.fresh")
    tab.press("ArrowLeft")
    assert tab.step == "#1"
    tab.press("End")
    assert tab.step == "#32"


def test_keys_go_along_a_path_and_from_cause_to_cause(tab):
    tab.press("Home", "Shift+ArrowRight")
    assert tab.step == "#1"
    tab.press("n", "n")
    assert tab.step == "#5"
    tab.press("p")
    assert tab.step == "#2"
    tab.press("End", "c")
    assert tab.step != "#32"
    assert "cpu1 free" in tab.text("#state")


def test_the_link_of_a_row_goes_to_its_step(tab):
    tab.page.click("#race-table button:text-is('#16')")
    assert tab.step == "#16"
    assert tab.page.locator("#race-table tr.now").inner_text().startswith("#16")
    assert tab.page.evaluate("location.hash") == "#step=16"


def test_an_address_with_a_step_opens_there(tab):
    tab.page.goto(tab.page.url.partition("#")[0] + "#step=7")
    assert tab.step == "#7"
    tab.page.reload()
    assert tab.step == "#7"


def test_clicking_a_box_of_the_timeline_selects_its_step(tab):
    tab.page.locator("#canvas rect[data-at='7']").click()
    assert tab.step == "#7"


def test_a_filter_chooses_the_steps_that_keys_go_through(tab):
    tab.press("/")
    tab.page.keyboard.type("lane:cpu1 is:changed")
    assert tab.text("#matches") == "7 of 33"
    rows = tab.page.locator("#rows .row")
    assert {text.split("\n")[2] for text in rows.all_inner_texts()} == {"cpu1 free"}
    tab.press("Enter", "Home")
    first = tab.step
    tab.press("ArrowDown")
    assert tab.step != first
    assert tab.page.locator("#canvas .box.dim").count() > 0
    tab.press("Escape")
    assert tab.text("#matches") == ""
    assert tab.page.locator("#rows .row").count() > 12


def test_a_filter_that_nothing_passes_says_so(tab):
    tab.page.fill("#filter", "no such step")
    assert tab.text("#rows") == "No step passes the filter; Esc clears it."
    tab.press("ArrowRight")


def test_the_keys_are_listed(tab):
    tab.press("?")
    assert tab.page.evaluate("document.getElementById('keys').open")
    assert "to the first step" in tab.text("#keys")
    tab.press("Escape")
    assert not tab.page.evaluate("document.getElementById('keys').open")
    tab.press("Home")
    assert tab.step == "#0"


def test_zoom_and_axis_change_what_is_drawn(visit, page_of, short_log):
    tab = visit(page_of(short_log))
    boxes = tab.page.locator("#canvas rect.box").count()
    tab.press("0")
    assert tab.page.locator("#canvas rect.box").count() > boxes
    tab.press("t")
    assert tab.page.input_value("#axis") == "time"
    assert "60 s" in tab.text("#canvas")
    assert tab.page.locator("#canvas text", has_text="steps").count() > 0
    tab.press("+", "+")
    assert tab.page.evaluate(
        "document.getElementById('view').scrollWidth > document.getElementById('view').clientWidth"
    )


def luminance(tab: Tab, selector: str, name: str) -> float:
    """How light a colour of an element is, 0 to 1, as contrast is computed with."""
    colour = tab.page.evaluate(
        "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]", [selector, name]
    )
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_can_be_read(visit, page_of, finding, scheme):
    tab = visit(page_of(finding), scheme)
    paper = luminance(tab, "body", "backgroundColor")
    assert (paper > 0.5) == (scheme == "light")
    for selector in ("body", "#signature", ".muted", "nav a", "dt", "#rows .row.look .what"):
        ink = luminance(tab, selector, "color")
        high, low = max(paper, ink), min(paper, ink)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_the_switch_overrides_the_colours_of_the_system(tab):
    assert luminance(tab, "body", "backgroundColor") > 0.5
    tab.press("d", "d")
    assert tab.text("#theme") == "Theme: dark"
    assert luminance(tab, "body", "backgroundColor") < 0.1
    tab.press("d")
    assert tab.text("#theme") == "Theme: auto"


def test_everything_that_can_be_operated_has_a_name_and_shows_the_focus(tab):
    nameless = tab.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=listbox], [tabindex]")].filter((one) =>
        !(one.textContent.trim() || one.labels?.length || one.ariaLabel || one.getAttribute("aria-labelledby")))
        .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    tab.press("Tab", "Tab")
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("ArrowRight", "Home", "ArrowRight")
    assert "cpu0 rmdir" in tab.page.inner_text("#spoken")
    assert tab.page.get_attribute("#steps", "aria-activedescendant") == "step-1"


@pytest.mark.parametrize("width", [1680, 1280, 720])
def test_nothing_sticks_out_of_the_page(visit, page_of, finding, width):
    tab = visit(page_of(finding), width=width)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_names_that_would_end_a_script_are_shown_as_they_are(visit, page_of, tmp_path):
    tab = visit(page_of(nasty_log(tmp_path / "nasty.jsonl")))
    assert NASTY[:40] in tab.text("h1")
    assert NASTY[:40] in tab.text("#caches-table")
    assert NASTY[:20] in tab.text("#state")
    assert tab.page.locator("img").count() == 0


def test_a_log_without_a_step_is_drawn_too(visit, page_of, short_log, tmp_path):
    begun = tmp_path / "begun.jsonl"
    begun.write_bytes(short_log.read_bytes().splitlines(keepends=True)[0])
    tab = visit(page_of(begun))
    tab.press("ArrowRight", "End", "0", "t", "c", "n", "Shift+ArrowRight")
    assert "The run has no step." in tab.text("#state")


def test_paper_has_the_steps_one_below_the_other(tab):
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tops = tab.page.eval_on_selector_all("#rows .row", "rows => rows.map((row) => row.getBoundingClientRect().top)")
    assert len(tops) == 33
    assert tops == sorted(set(tops))
    assert luminance(tab, "body", "backgroundColor") == 1.0


# -- ten thousand steps ------------------------------------------------------------------------------------------------


def test_ten_thousand_steps_open_in_time_and_only_what_is_visible_is_in_the_page(visit, page_of, long_log):
    tab = visit(page_of(long_log))
    assert tab.page.evaluate("COUNT") > 10_000
    seconds = tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    assert seconds < OPEN_MAX_SECONDS
    assert tab.page.evaluate("document.querySelectorAll('*').length") < 3_000
    tab.press("0")
    assert tab.page.evaluate("document.querySelectorAll('*').length") < 3_000
    tab.press("End")
    assert tab.step == "#10064"


@pytest.mark.parametrize("before", [[], ["0"], ["t"]])
def test_stepping_through_ten_thousand_steps_is_quick(visit, page_of, long_log, before):
    tab = visit(page_of(long_log))
    tab.page.evaluate("select(6000)")
    tab.press(*before)
    times = tab.page.evaluate(STEP_TIMES)
    assert times[len(times) // 2] < STEP_MAX_MILLISECONDS
    assert int(tab.step[1:]) > 6_000


# -- an hour with dozens of caches -------------------------------------------------------------------------------------


@pytest.fixture
def hour(visit, page_of, hour_log) -> Tab:
    """The page of an hour of containers."""
    return visit(page_of(hour_log))


def lane_names(tab: Tab) -> list[str]:
    """What stands beside the lanes in view."""
    return list(tab.page.eval_on_selector_all("#lanes text", "texts => texts.map((one) => one.firstChild.data)"))


def test_a_thousand_paths_are_shown_by_the_cpu_that_they_run_on(hour):
    assert hour.page.input_value("#lanes-by") == "cpu"
    assert hour.page.evaluate("DOC.lanes.length") > 400
    names = [f"cpu{number}" for number in range(4)] + [f"kworker/{number}" for number in range(4)]
    assert [name for name in lane_names(hour) if name in names] == names
    assert hour.page.evaluate("lines.reduce((sum, line) => sum + line.steps.length, 0) === COUNT")
    assert hour.page.evaluate("lines.every(({ steps }) => steps.every((at, index) => !index || steps[index - 1] < at))")
    hour.press("l")
    assert hour.page.input_value("#lanes-by") == "path"
    assert hour.page.evaluate("lines.length === DOC.lanes.length")
    hour.press("End")
    last = hour.page.evaluate("who(COUNT - 1)")
    assert last in lane_names(hour)


def test_shift_and_arrow_stay_on_a_path_where_lanes_are_cpus(hour):
    hour.page.evaluate("select(OF_LANE.find((lane) => lane.length > 20)[5])")
    lane = hour.page.evaluate("STEPS.lane[selected]")
    hour.press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft")
    assert hour.page.evaluate("STEPS.lane[selected]") == lane


def test_a_long_run_is_first_shown_over_time_with_round_times(hour):
    assert hour.page.input_value("#axis") == "time"
    marks = hour.page.eval_on_selector_all("#canvas text", "texts => texts.map((one) => one.textContent)")
    assert {"0 min", "10 min", "60 min"} <= set(marks)
    hour.press("End", *["+"] * 14)
    marks = hour.page.eval_on_selector_all("#canvas text", "texts => texts.map((one) => one.textContent)")
    assert any(re.fullmatch(r"3\d\d\d(\.\d+)? s", mark) for mark in marks)


def test_the_order_of_steps_says_when_each_burst_was(hour):
    hour.page.evaluate("select(BURSTS[40])")
    hour.press("t")
    assert f"{hour.page.evaluate('secondsOf(STEPS.jiffies[selected])')} s" in hour.text("#canvas")
    for presses in (["-"] * 3, ["-"] * 3, ["0"]):
        hour.press(*presses)
        places = hour.page.eval_on_selector_all(
            "#canvas > svg > g text",
            "texts => texts.map((one) => one.getBoundingClientRect()).map((box) => [box.top, box.left, box.right])",
        )
        assert len(places) > 2
        for (row, _, end), (other, begin, _) in pairwise(sorted(places)):
            assert row != other or end <= begin, "two times lie over each other"


def test_arrows_that_nobody_could_tell_apart_are_left_out_and_a_note_says_so(hour):
    hour.page.evaluate("select(6000)")
    hour.press("t")
    assert hour.page.locator("#canvas .arrow").count() > 0
    assert hour.page.is_hidden("#crowded")
    hour.press(*["-"] * 6)
    assert hour.page.locator("#canvas .arrow.faint").count() == 0
    assert "Zoom in" in hour.text("#crowded")
    hour.press("0")
    assert hour.page.is_hidden("#crowded")


def rows_of_caches(tab: Tab) -> list[list[str]]:
    """The cells of the rows that are shown."""
    return [row.split("\t") for row in tab.page.locator("#caches-table tbody tr:visible").all_inner_texts()]


def test_of_dozens_of_caches_those_that_are_there_are_listed(hour):
    hour.page.evaluate("select(Math.floor(COUNT * 0.8))")
    hour.press()
    states = [row[1] for row in rows_of_caches(hour)]
    assert 5 < len(states) < 65
    assert set(states) <= {"alive", "dead"} | {hour.page.evaluate(
        "valueAt(DOC.caches[CACHE_OF.get(STEPS.actor[selected]) ?? 0].series[0], selected) ?? 'not there yet'"
    )}  # fmt: skip
    assert hour.text("#caches-count").startswith(f"{len(states)} of 65 shown: ")
    hour.page.select_option("#caches-show", "dead")
    dead = rows_of_caches(hour)
    assert 0 < len(dead) < len(states)
    hour.page.select_option("#caches-show", "all")
    assert len(rows_of_caches(hour)) == 65
    hour.page.fill("#caches-find", "c14 dentry")
    [[name, *_]] = rows_of_caches(hour)
    assert re.fullmatch(r"dentry\(\d+:c14\)", name)


def test_the_cache_of_the_selected_step_is_listed_whatever_it_is(hour):
    destroyed = hour.page.evaluate(
        "STEPS.operation.findLastIndex((op, at) => DOC.texts[op] === 'free' && / *kmem_cache_free/.test(doesOf(at)))"
    )
    hour.page.evaluate(f"select({destroyed})")
    hour.press()
    [row] = hour.page.locator("#caches-table tr.now").all_inner_texts()
    assert row.split("\t")[1] == "destroyed"
    assert hour.page.is_visible("#caches-table tr.now")


def test_the_lives_of_caches_say_how_long_each_was_dead_and_which_leaked(hour, hour_log):
    """As many bars as caches; what is still there is of another colour, and says so in words."""
    assert hour.page.locator("#lives-picture rect.life").count() == 60
    leaked = hour.page.locator("#lives-picture rect.leaked").count()
    assert hour.page.locator("#lives-picture text", has_text="still there").count() == leaked
    end = json.loads(hour_log.read_text().splitlines()[-1])
    assert leaked == sum(one["state"] == "dead" for one in end["caches"])
    assert (leaked > 0) == ("v3.8" in hour_log.name)
    hour.page.locator("#lives-picture").click(position={"x": 600, "y": 100})
    assert hour.step != "#0"
    assert hour.page.get_attribute("#lives-picture .cursor", "x1") != "190.0"


def test_curves_have_units_and_over_time_no_width_for_what_takes_none(hour):
    captions = hour.page.locator("#curves figcaption output").all_inner_texts()
    assert [one.split(" ")[1].rstrip("s") for one in captions[:3]] == ["page", "cache", "page"]
    assert hour.page.evaluate(
        "CURVES.every(({ series }) => lasting(series).every(([at], index, all) => "
        "!index || all[index - 1][0] < 0 || STEPS.jiffies[all[index - 1][0]] < STEPS.jiffies[at]))"
    )


@pytest.mark.parametrize("width", [1600, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_hour_fits_the_page_too(visit, page_of, hour_log, width, scheme):
    tab = visit(page_of(hour_log), scheme, width)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    seconds = tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    assert seconds < OPEN_MAX_SECONDS
    paper = luminance(tab, "body", "backgroundColor")
    for selector in (".leaked", ".dying", ".life"):
        found = tab.page.locator(f"#lives-picture {selector}")
        if found.count():
            ink = luminance(tab, f"#lives-picture {selector}", "fill")
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 3, selector


def test_knobs_of_a_story_are_a_list(hour):
    assert hour.page.locator("#tale .knobs dt").all_inner_texts()[:3] == ["containers", "roots", "minutes"]
