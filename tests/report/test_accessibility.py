"""The report's page for whoever does not see it, has no mouse, or a phone: by its elements, and by a browser with axe."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import browser
import optimised_run as optimised
import pytest
import synthetic_run as synthetic
from hostile_run import poisoned_record
from memory_run import MemoryRun, read_entries, summarised
from synthetic_journal import entries, records

from moevolve.journal.reader import read
from moevolve.report import html, svg
from moevolve.report.summary import summary_of

VOID = {"meta", "br", "wbr"}
CONTRAST = 7.0
"""Of text, by the stricter of WCAG's two levels."""
DRAWN = 3.0
"""Of what a chart draws."""
RULES = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]
"""Tags of axe's rules: all there are."""


def drawn(run: MemoryRun) -> str:
    summary = summary_of(run)
    assert summary is not None
    return html.page(summary, read(run))


@cache
def pages() -> dict[str, str]:
    """A page of each shape: whole, of an evaluator's run, of one that has just begun, of one that means harm."""
    strange = entries([poisoned_record(record) for record in records(cycles=2)])
    return {
        "whole": drawn(synthetic.recorded(None, "finished", alive=False)),
        "optimised": drawn(optimised.recorded()),
        "begun": drawn(synthetic.recorded(1)),
        "hostile": html.page(summarised(strange), read_entries(strange)),
    }


class Element:
    """An element by its tag and attributes, and those inside it."""

    def __init__(self, tag: str, attributes: dict[str, str], around: Element | None) -> None:
        self.tag, self.attributes, self.around = tag, attributes, around
        self.inside: list[Element] = []
        self.text = ""

    def all(self, *tags: str) -> list[Element]:
        """Those below it with one of the tags, in the page's order."""
        return [
            found for each in self.inside for found in ([each] if each.tag in tags else []) + each.all(*tags)
        ]

    def parents(self) -> list[Element]:
        return [] if self.around is None else [self.around, *self.around.parents()]


class Tree(HTMLParser):
    """The page as a tree of elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self._at = Element("", {}, None)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs}, self._at)
        self._at.inside.append(made)
        if tag not in VOID:
            self._at = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._at.tag == tag and self._at.around is not None
        self._at = self._at.around

    def handle_data(self, data: str) -> None:
        self._at.text += data


@pytest.fixture(params=["whole", "optimised", "begun", "hostile"])
def root(request: pytest.FixtureRequest) -> Element:
    return Tree(pages()[request.param]).root


def test_the_page_has_a_language_a_title_and_one_main_part_that_holds_everything(root: Element) -> None:
    (whole,) = root.all("html")
    (title,) = [each for each in root.all("title") if not each.all() and each.parents()[0].tag == "head"]
    assert whole.attributes["lang"] == "en" and title.text.strip()
    (view,) = [each for each in root.all("meta") if each.attributes.get("name") == "viewport"]
    assert "user-scalable" not in view.attributes["content"] and "maximum" not in view.attributes["content"]
    (body,) = root.all("body")
    assert [each.tag for each in body.inside] == ["main"]


def test_headings_go_down_one_level_at_a_time(root: Element) -> None:
    levels = [int(each.tag[1]) for each in root.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_each_chart_says_in_words_what_it_shows(root: Element) -> None:
    for chart in root.all("svg"):
        assert chart.attributes["role"] == "img"
        assert len(chart.attributes["aria-label"].split()) > 2
        assert chart.all("title")[0].text == chart.attributes["aria-label"]
    assert not [each for each in root.all("img", "canvas", "object", "iframe")]


def test_each_table_has_headers_of_known_direction_and_rows_of_one_length(root: Element) -> None:
    assert root.all("table")
    for table in root.all("table"):
        headers = table.all("th")
        assert headers and all(each.attributes.get("scope") in ("col", "row") for each in headers)
        assert len({len(row.inside) for row in table.all("tr")}) == 1
        columns = [each for each in headers if each.attributes["scope"] == "col"]
        assert all(each.text.strip() for each in columns)
        # Without a row of headers, each row has one.
        assert columns or all(row.all("th") for row in table.all("tr"))


def test_what_scrolls_by_itself_is_reached_by_keys_and_has_a_name_of_its_own(root: Element) -> None:
    scrolls = [
        each
        for each in root.all("div", "pre", "table", "figure", "ul")
        if each.tag == "pre" or "wide" in each.attributes.get("class", "").split()
    ]
    assert all(
        each.attributes.get("tabindex") == "0" and each.attributes["role"] == "region" for each in scrolls
    )
    names = Counter(each.attributes["aria-label"] for each in scrolls)
    assert all(name and count == 1 for name, count in names.items())
    widths = re.findall(r"^\.?([\w .]+) \{[^}]*overflow-x: auto", html_style(root), re.MULTILINE)
    assert sorted(widths) == ["pre", "wide"]


def test_the_lineage_is_a_list_that_says_how_deep_each_variant_lies(root: Element) -> None:
    (tree,) = [each for each in root.all("ul") if each.attributes.get("class") == "tree"]
    depths = [int(each.attributes["aria-level"]) for each in tree.inside]
    assert not depths or depths[0] == 1 and min(depths) == 1


def test_names_of_elements_are_unique_and_nothing_takes_the_focus_out_of_order(root: Element) -> None:
    every = [each for tag in {"div", "pre", "table", "svg", "details", "li"} for each in root.all(tag)]
    ids = [each.attributes["id"] for each in every if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    assert {each.attributes["tabindex"] for each in every if "tabindex" in each.attributes} <= {"0"}


def html_style(root: Element) -> str:
    return next(each.text for each in root.all("style") if each.parents()[0].tag == "head")


def colours(text: str, start: str) -> dict[str, str]:
    """Custom properties of the first rule after `start`."""
    rule = text[text.index(start) :]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", rule[: rule.index("}")]))


def contrast(one: str, other: str) -> float:
    """The ratio of luminances by WCAG."""

    def luminance(colour: str) -> float:
        values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("start", "chart"), [(":root { color", svg.LIGHT), ("dark) { :root", svg.DARK)])
def test_every_text_of_the_page_can_be_read_in_light_and_in_dark(start: str, chart: dict[str, str]) -> None:
    found = colours(drawn(synthetic.recorded(1)), start)
    for name in ("ink", "quiet", "good", "bad"):
        for behind in ("page", "panel"):
            assert contrast(found[name], found[behind]) >= CONTRAST, (name, behind)
    assert contrast(chart["text"], found["page"]) >= CONTRAST
    for name in ("dev", "sealed", "before"):
        assert contrast(chart[name], found["page"]) >= DRAWN, name


@pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(browser.axe_file() is None, reason="axe is not installed: pip install axe-core-python")
def test_axe_finds_nothing_on_a_phone_and_a_desk_in_light_and_in_dark(tmp_path: Path) -> None:
    script = browser.axe_file()
    assert script is not None
    axe, wrong = script.read_text(), []
    with browser.Browser(tmp_path / "profile") as window:
        for name, text in pages().items():
            file = tmp_path / f"{name}.html"
            file.write_text(text)
            for width in (320, 420, 1400):
                for dark in (False, True):
                    window.show(file, width, dark=dark)
                    window.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
                    where = f"{name}, {width} px, {'dark' if dark else 'light'}"
                    # Nothing is wider than the window, but what scrolls by itself.
                    assert window.evaluate("document.documentElement.scrollWidth") == width, where
                    if width == 320:
                        continue
                    window.evaluate(f"{axe};0")
                    found = window.evaluate(f"axe.run(document, {{runOnly: {RULES}}})")
                    assert found["passes"]
                    wrong += [
                        f"{where}: {each['id']}, {each['nodes'][0]['html']}" for each in found["violations"]
                    ]
    assert not wrong
