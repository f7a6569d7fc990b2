"""The site is built without a warning, all of it can be reached, and nothing of it needs a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, headings, links
from tests.docs.site import Page, Site

pytest.importorskip("furo", reason="needs slabactors[docs]")
pytest.importorskip("myst_parser", reason="needs slabactors[docs]")

DOCS = ROOT / "docs"
KINDS = ["Tutorial", "How-to guides", "Reference", "Explanation"]


def build(checkout: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As ``make docs`` does it: every warning is an error."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-c", checkout / "docs", "-d", f"{out}.cache", checkout, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout
    return Site(out)


def test_every_link_and_anchor_of_the_site_holds_and_nothing_comes_from_the_network(site):
    assert not list(site.problems())


def test_every_page_of_the_documentation_is_a_page_of_the_site(site):
    built = {site.name(file) for file in site.files("html")}
    assert built == {page.relative_to(ROOT).with_suffix(".html").as_posix() for page in PAGES} | {
        "index.html",
        "search.html",
    }


def test_reading_on_goes_through_the_four_kinds_in_the_order_of_the_landing_page(site):
    order = [site.name(file) for file in site.reading_order()]
    kinds = [name.split("/")[1] for name in order if name.count("/") > 1]
    assert list(dict.fromkeys(kinds)) == ["tutorial", "how-to", "reference", "explanation"]
    assert kinds == sorted(kinds, key=["tutorial", "how-to", "reference", "explanation"].index)
    assert order[:2] == ["docs/index.html", "docs/tutorial/first-bug.html"]
    assert order[-2:] == ["README.html", "CHANGELOG.html"]


def test_the_landing_page_begins_with_the_way_to_each_kind():
    landing = DOCS / "index.md"
    assert [one for one in headings(landing) if one in KINDS] == KINDS
    first = list(links(landing))[:5]
    assert first == ["tutorial/first-bug.md", "#tutorial", "#how-to-guides", "#reference", "#explanation"]


def test_the_top_of_the_site_leads_to_the_landing_page(site):
    assert {one.text for one in Page(site.directory / "index.html").addresses} == {"docs/index.html"}


# -- the checks themselves ---------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A small checkout whose site is as it should be."""
    docs = tmp_path / "checkout" / "docs"
    shutil.copytree(DOCS / "site", docs / "site")
    shutil.copy(DOCS / "conf.py", docs)
    (docs / "index.md").write_text("# Top\n\n## Tutorial\n\n- [One](one.md): first\n")
    (docs / "one.md").write_text("# One\n\nSee [above](index.md#tutorial), [Two](../two.py), [top](#one).\n")
    (docs.parent / "two.py").write_text("two = 2\n")
    return docs.parent


def test_a_small_site_is_built_and_has_no_problems(checkout, tmp_path):
    done = build(checkout, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    assert not list(Site(tmp_path / "out").problems())
    assert [file.name for file in Site(tmp_path / "out").reading_order()] == ["index.html", "one.html"]
    assert list((tmp_path / "out").rglob("two.py"))


def test_a_broken_link_a_missing_anchor_and_an_orphan_each_fail_the_build(checkout, tmp_path):
    page = checkout / "docs" / "one.md"
    page.write_text(page.read_text() + "\n[a](gone.md), [b](index.md#nowhere), [c](#nowhere-either), [d](../gone.py)\n")
    (checkout / "docs" / "orphan.md").write_text("# Orphan\n")
    done = build(checkout, tmp_path / "out")
    assert done.returncode == 1
    for wanted in ("gone.md", "nowhere", "nowhere-either", "../gone.py"):
        assert f": '{wanted}' [myst.xref_missing]" in done.stdout
    assert "orphan.md: WARNING: document isn't included in any toctree" in done.stdout


PLAIN = '<title>Page</title><link rel="next" href="one.html"><div class="sidebar-tree"><a href="one.html">One</a></div>'


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<a href='two.html'>", "two.html leads nowhere"),
        ("<a href='../../outside.html'>", "../../outside.html leads nowhere"),
        ("<a href='.'>", ". leads nowhere"),
        ("<a href='/docs/one.html'>", "/docs/one.html holds only where the site is at the top of its host"),
        ("<img src='gone.png'>", "gone.png leads nowhere"),
        ("<img srcset='one.html 1x, gone.png 2x'>", "gone.png leads nowhere"),
        ("<a href='#here'>", "#here has no such anchor"),
        ("<a href='one.html#there'>", "one.html#there has no such anchor"),
        ("<svg><use href='#moon'></use></svg>", "#moon has no such anchor"),
        ("<script src='https://a.org/a.js'></script>", "https://a.org/a.js is loaded from the network"),
        ("<link rel='stylesheet' href='//a.org/a.css'>", "//a.org/a.css is loaded from the network"),
        ("<link rel='preconnect' href='https://a.org'>", "https://a.org is loaded from the network"),
        ("<p style='background: url(https://a.org/a.png)'>", "https://a.org/a.png is loaded from the network"),
        ("<style>@import 'https://a.org/a.css';</style>", "https://a.org/a.css is loaded from the network"),
    ],
)
def test_what_does_not_work_on_a_page_is_noticed(tmp_path, page, problem):
    docs = tmp_path / "site" / "docs"
    docs.mkdir(parents=True)
    (tmp_path / "outside.html").write_text("<title>Outside</title>")
    (docs / "one.html").write_text("<title>One</title>")
    (docs / "index.html").write_text(PLAIN + "<h1 id='top'><a href='#top'><a href='https://a.org'>")
    assert not list(Site(tmp_path / "site").problems())
    (docs / "index.html").write_text(PLAIN + page)
    assert list(Site(tmp_path / "site").problems()) == [f"docs/index.html: {problem}"]


def test_fonts_and_scripts_from_the_network_and_pages_that_are_left_out_are_noticed(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "one.html").write_text("<title>One</title>")
    (docs / "index.html").write_text(PLAIN)
    (docs / "orphan.html").write_text("<h1>No title, either</h1>")
    (docs / "fonts.css").write_text("@font-face { src: url('https://a.org/a.woff2'), url(one.html) }")
    (docs / "more.js").write_text(
        "import('https://a.org/a.mjs'); document.createElementNS('http://www.w3.org/2000/svg')"
    )
    assert list(Site(tmp_path).problems()) == [
        "docs/orphan.html: no title",
        "docs/fonts.css: https://a.org/a.woff2 is loaded from the network",
        "docs/more.js: https://a.org/a.mjs may be loaded from the network",
        "docs/orphan.html: not in the navigation",
        "docs/orphan.html: no page leads on to it",
    ]
