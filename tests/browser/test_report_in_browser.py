"""The report in a real browser: plots drawn, silent console, no network, readable on a phone and in the dark."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.report.stage import run
from tests.support.sample_ledger import sample_ledger, write_ledger

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE_MS = 120_000

LEDGERS: dict[str, dict[str, Any]] = {
    "full": {},
    "several": {"benchmarks": ["gsm8k_test_subset", "svamp", "singleop"], "n": 60},
    "small": {"rounds": 0, "samples": 0, "n": 30},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium. It must end with this file: Playwright keeps an event loop running, and asynchronous tests need their own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on PATH: install the Debian package chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of several runs."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}
    decision = {"promoted": True, "reason": "M3 is better.", "comparisons": [
        {"opponent": "M0", "n": 300, "candidate_accuracy": 0.7, "opponent_accuracy": 0.27, "gain": 0.43, "low": 0.36, "high": 0.5,
         "p_value": 1e-22, "only_candidate": 150, "only_opponent": 20}]}  # fmt: skip
    (folder / "decision.json").write_text(json.dumps(decision))
    for name, options in LEDGERS.items():
        first, *others = sample_ledger(extra_text="<script>console.error('ran')</script>", **options)
        first = msgspec.structs.replace(first, options={"seed": 0, "a_rather_long_name_of_an_option": "x" * 200})
        ledger = write_ledger(folder / f"{name}.jsonl", [first, *others])
        made[name] = folder / f"{name}.html"
        run(ledger, folder / "decision.json", made[name], folder / "summary.json")
    return made


class Visit:
    """An open page that remembers what the browser complained about and asked for."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme, device_scale_factor=1)
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def screenshot(self, name: str) -> None:
        """Keep a picture when TUTORLOOP_SCREENSHOTS names a folder."""
        folder = os.environ.get("TUTORLOOP_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def visit(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """Open a report; the page is closed at the end."""
    opened: list[Visit] = []

    def go(name: str, width: int, scheme: str = "light") -> Visit:
        opened.append(Visit(browser, pages[name], width, scheme))
        return opened[-1]

    yield go
    for one in opened:
        one.page.close()


EVERYTHING_OPEN = "document.querySelectorAll('details').forEach(item => item.open = true)"


@pytest.mark.parametrize("name", LEDGERS)
@pytest.mark.parametrize("width", [390, 1280])
def test_silent_without_network_and_without_overflow(visit: Any, pages: dict[str, Path], name: str, width: int) -> None:
    seen = visit(name, width)
    seen.screenshot(f"{name}-{width}")
    seen.page.evaluate(EVERYTHING_OPEN)
    assert seen.complaints == []
    assert seen.requests == [pages[name].as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = seen.page.evaluate(
        """width => [...document.querySelectorAll('body *')].filter(item => {
            if (item.closest('.scroll')) return false;
            const box = item.getBoundingClientRect();
            return box.width > 0 && (box.right > width + 0.5 || box.left < -0.5);
        }).map(item => item.tagName + '.' + item.className)""",
        width,
    )
    assert sticking_out == []


@pytest.mark.parametrize(("name", "charts"), [("full", 11), ("several", 19), ("small", 5)])
@pytest.mark.parametrize("width", [390, 1280])
def test_plots_are_drawn_with_readable_labels(visit: Any, name: str, charts: int, width: int) -> None:
    seen = visit(name, width)
    seen.page.evaluate(EVERYTHING_OPEN)
    found = seen.page.evaluate(
        """() => [...document.querySelectorAll('svg.chart')].map(svg => {
            const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
            const marks = [...svg.querySelectorAll('.series rect, .series circle, .series path.line')];
            const painted = marks.filter(mark => {
                const style = getComputedStyle(mark), own = mark.getBoundingClientRect();
                const paint = mark.tagName === 'path' ? style.stroke : style.fill;
                return own.width > 0 && own.height > 0 && paint !== 'none' && paint !== 'rgb(0, 0, 0)';
            });
            const texts = [...svg.querySelectorAll('text')].map(text => {
                const own = text.getBoundingClientRect();
                return {text: text.textContent, size: parseFloat(getComputedStyle(text).fontSize) * scale,
                        inside: own.left >= box.left - 1 && own.right <= box.right + 1 && own.bottom <= box.bottom + 1,
                        left: own.left, right: own.right, top: own.top, bottom: own.bottom};
            });
            return {width: box.width, height: box.height, marks: marks.length, painted: painted.length, texts,
                    name: svg.getAttribute('aria-label')};
        })"""
    )
    assert len(found) == charts
    for chart in found:
        assert chart["width"] > 280 and chart["height"] > 180, chart["name"]
        assert chart["marks"] == chart["painted"] > 0, chart["name"]
        assert len(chart["texts"]) >= 4
        for text in chart["texts"]:
            assert text["size"] >= 11, (chart["name"], text)
            assert text["inside"], (chart["name"], text)
        overlapping = [
            (one["text"], other["text"])
            for index, one in enumerate(chart["texts"])
            for other in chart["texts"][index + 1 :]
            if min(one["right"], other["right"]) - max(one["left"], other["left"]) > 1
            and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 4
        ]
        assert overlapping == [], chart["name"]


CONTRASTS = """() => {
    const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = item => {
        for (let at = item; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0.99) return colour;
        }
        return [255, 255, 255];
    };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const poor = [];
    for (const item of document.querySelectorAll('body *')) {
        const own = [...item.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || !item.getBoundingClientRect().width) continue;
        const style = getComputedStyle(item), svg = item.closest('svg');
        const colour = parse(svg ? style.fill : style.color), found = ratio(colour, ground(svg ? svg.parentElement : item));
        if (found < 4.5) poor.push([item.tagName, item.className.baseVal ?? item.className, item.textContent.slice(0, 30), found]);
    }
    const marks = [...document.querySelectorAll('svg.chart .series rect, svg.chart circle')].map(mark =>
        ratio(parse(getComputedStyle(mark).fill), ground(mark.closest('svg').parentElement)));
    return {poor, marks: Math.min(...marks), paper: light(ground(document.body))};
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible_in_light_and_dark(visit: Any, scheme: str) -> None:
    seen = visit("full", 1280, scheme)
    seen.screenshot(f"full-{scheme}")
    seen.page.evaluate(EVERYTHING_OPEN)
    found = seen.page.evaluate(CONTRASTS)
    assert found["poor"] == []
    assert found["marks"] > 1.8
    assert found["paper"] < 0.05 if scheme == "dark" else found["paper"] > 0.8


def test_works_in_a_sandboxed_frame(browser: Any, pages: dict[str, Path]) -> None:
    """The Kubeflow UI shows HTML artifacts in a frame without rights."""
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.set_content("<iframe sandbox style='width:800px;height:600px'></iframe>")
    page.evaluate("html => document.querySelector('iframe').srcdoc = html", pages["full"].read_text())
    frame = page.frame_locator("iframe")
    frame.locator("h1").wait_for()
    # The heading is there before the rest is.
    page.frames[1].wait_for_load_state("load")
    assert "improved" in frame.locator("h1").inner_text()
    assert frame.locator("svg.chart").count() == 11
    box = frame.locator("svg.chart").first.bounding_box()
    assert box and box["width"] > 280
    assert complaints == []
    page.close()


def test_text_of_a_model_is_shown_and_not_run(visit: Any) -> None:
    seen = visit("full", 1280)
    assert "<script>console.error('ran')</script>" in seen.page.inner_text("#problems")
    assert seen.complaints == []
