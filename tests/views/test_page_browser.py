"""The run page opened from its file in Chromium, at the widths of a desktop, a tablet and a telephone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.views.browser import Tab, open_tab
from tracer.views.feature_page import write_feature_page
from tracer.views.page import write_page

pytestmark = pytest.mark.page

WIDTHS = (1280, 768, 390)

CUT_OFF = """
[...document.body.querySelectorAll("*")].filter(element => {
    if (element.closest("svg") !== element && element.closest("svg")) return false;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!box.width || style.clipPath !== "none" || element.closest("thead") && innerWidth < 640) return false;
    const overflow = ancestor => getComputedStyle(ancestor).overflowX;
    const scrolls = ancestor => ancestor && (overflow(ancestor) === "auto" || scrolls(ancestor.parentElement));
    const leaves = !scrolls(element) && (box.right > innerWidth + 0.5 || box.left < -0.5);
    const hides = style.overflowX === "hidden" && element.scrollWidth > element.clientWidth;
    return leaves || hides;
}).map(element => element.outerHTML.slice(0, 120))
"""

CONTRASTS = """
(() => {
    const parse = text => text.match(/[\\d.]+/g).map(Number);
    const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const shares = [0.2126, 0.7152, 0.0722];
    const luminance = rgb => rgb.slice(0, 3).reduce((sum, c, i) => sum + linear(c / 255) * shares[i], 0);
    const over = (top, below) => {
        const alpha = top.length === 4 ? top[3] : 1;
        return below.map((c, i) => alpha * top[i] + (1 - alpha) * c);
    };
    const ground = element => element === null ? [255, 255, 255]
        : over(parse(getComputedStyle(element).backgroundColor), ground(element.parentElement));
    const contrast = element => {
        const below = ground(element), ink = over(parse(getComputedStyle(element).color), below);
        const [high, low] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const speaks = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    return [...document.body.querySelectorAll("*")]
        .filter(element => !element.closest("svg, script") && speaks(element))
        .map(element => [contrast(element), element.outerHTML.slice(0, 120)]);
})()
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as tab:
        yield tab


FEATURE_PAGES = {
    "finished_feature": ("finished_harvest", "finished_run"),
    "hostile_feature": ("hostile_harvest", "hostile_run"),
}


@pytest.fixture(scope="module", params=["finished_run", "hostile_run", "empty_run", *FEATURE_PAGES])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("page") / "page.html"
    if request.param in FEATURE_PAGES:
        harvest, run = (request.getfixturevalue(name) for name in FEATURE_PAGES[request.param])
        write_feature_page(harvest, 0, 10, target, run=run)
    else:
        write_page(request.getfixturevalue(request.param), target)
    return target.as_uri()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_asks_nothing_of_the_network_and_logs_nothing(tab: Tab, url: str, width: int):
    tab.open(url, width=width)
    events = {event["method"]: event["params"] for event in tab.events if "method" in event}
    asked = [
        event["params"]["request"]["url"] for event in tab.events if event.get("method") == "Network.requestWillBeSent"
    ]
    assert asked.count(url) == 1
    assert [address for address in asked if address != url and not address.startswith("data:")] == []
    assert not {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} & set(events)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(tab: Tab, url: str, width: int):
    tab.open(url, width=width)
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(tab: Tab, url: str, is_dark: bool):
    tab.open(url, width=1280, is_dark=is_dark)
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [(contrast, html) for contrast, html in contrasts if contrast < 4.5] == []


def test_light_and_dark_differ(tab: Tab, url: str):
    grounds = []
    for is_dark in (False, True):
        tab.open(url, width=1280, is_dark=is_dark)
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2


def test_pointing_at_a_node_shows_its_edges_alone_and_says_what_it_is(tab: Tab, finished_run: Path, tmp_path: Path):
    write_page(finished_run, tmp_path / "page.html")
    tab.open((tmp_path / "page.html").as_uri(), width=1280)
    node = "document.querySelector('#graph-picture .node.logit')"
    tab.evaluate(f"{node}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    idx = tab.evaluate(f"{node}.dataset.node")
    shown = tab.evaluate(
        "[...document.querySelectorAll('.edges path.shown')].map(e => [e.dataset.source, e.dataset.target])"
    )
    assert shown
    assert all(idx in ends for ends in shown)
    said = tab.evaluate("document.getElementById('graph-pointed').textContent")
    assert said == tab.evaluate(f"{node}.querySelector('title').textContent")
