"""Reports in a real browser, on a phone, a tablet and a large screen."""

from __future__ import annotations

import pytest

from tautulli_pipeline.reporting.report import write_report
from tautulli_pipeline_tests.browser import browser, needs_chromium
from tautulli_pipeline_tests.reporting.histories import data_dir_with, hostile_plays

pytestmark = needs_chromium

# What sticks out of the window, or text that is wider than its box.
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter(element => {
    const {left, right} = element.getBoundingClientRect();
    const cut = element.scrollWidth > element.clientWidth + 1
        && getComputedStyle(element).display !== "inline" && !element.closest("svg");
    return right > innerWidth + 0.5 || left < -0.5 || cut;
}).map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 60)}`)"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    data_dir = data_dir_with(hostile_plays(), folder)
    write_report(data_dir / "analytics.duckdb", folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def opened():
    with browser() as opened:
        yield opened


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "dark"),
        (768, "dark"),
        (1440, "light"),
        *(
            pytest.param(width, scheme, marks=pytest.mark.slow)
            for width, scheme in ((360, "light"), (768, "light"), (1440, "dark"))
        ),
    ],
)
def test_a_report_with_hostile_titles_fits_and_asks_for_nothing(opened, file, width, scheme):
    seen = []
    with opened.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    ) as context:
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: seen.append(dialog.message))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(file.as_uri())
        page.hover("h3")
        assert seen == [file.as_uri()]
        assert page.evaluate(OVERFLOWING) == []
        assert page.title() == "Play history"
        assert page.query_selector("#hurt, script, img, [onmouseover], [onerror]") is None
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(244, 245, 247)")
        text = page.inner_text("main")
    assert "<script>document.title" in text
    assert "</style></title>" in text
    assert r"\u202egnp.exe\u202c" in text
    assert r"bell\x07 escape\x1b[31m" in text
