"""Charts: real SVG with every data mark, honest geometry, nothing that differs between two renderings."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.report.charts import MAX_POINTS, Mark, Series, _ticks, interval_bars, lines

SVG = "{http://www.w3.org/2000/svg}"


def tree(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_bars_are_as_high_as_their_values_and_whiskers_span_the_interval() -> None:
    marks = [Mark(0.2, 0.1, 0.3, "A: 20"), Mark(0.4, 0.35, 0.5, "B: 40")]
    root = tree(interval_bars("t", ["A", "B"], [Series("s", "m1", marks=marks)]))
    heights = [float(rect.attrib["height"]) for rect in root.iter(f"{SVG}rect")]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    per_unit = heights[0] / 0.2
    for path, mark in zip([node for node in root.iter(f"{SVG}path") if "nofill" in node.get("class", "")], marks, strict=True):
        ys = [float(y) for y in re.findall(r"[ML]\S+ (\S+)", path.attrib["d"])]
        assert max(ys) - min(ys) == pytest.approx((mark.high - mark.low) * per_unit, rel=0.02)
    assert [title.text for title in root.iter(f"{SVG}title")] == ["A: 20", "B: 40"]
    assert [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "value"] == ["20.0", "40.0"]


def test_bar_alone_in_its_group_stands_in_the_middle_of_it() -> None:
    one = Mark(0.5, 0.4, 0.6)
    root = tree(interval_bars("t", ["A", "B"], [Series("x", "m1", marks=[one, one]), Series("y", "control", marks=[Mark(None), one])]))
    label = next(text for text in root.iter(f"{SVG}text") if text.text == "A")
    alone = next(rect for rect in root.iter(f"{SVG}rect"))
    assert float(alone.attrib["x"]) + float(alone.attrib["width"]) / 2 == pytest.approx(float(label.attrib["x"]), abs=1.0)
    assert len(list(root.iter(f"{SVG}rect"))) == 3


def test_lines_keep_ends_of_long_noisy_curves_and_draw_their_average() -> None:
    points = [(float(x), 5.0 - x / 300 + (0.2 if x % 2 else -0.2)) for x in range(1000)]
    svg = lines("loss", [Series("M1", "m1", points=points, smooth=True)], x_title="step")
    paths = [path.attrib["d"] for path in tree(svg).iter(f"{SVG}path") if path.get("class", "").startswith("line reactive")]
    assert len(paths) == 2
    assert all(len(re.findall(r"[-\d.]+ [-\d.]+", path)) <= MAX_POINTS for path in paths)
    assert len(svg) < 12_000


def test_dots_have_tooltips() -> None:
    series = [Series("M0", "m0", points=[(1, 0.2), (8, 0.6)]), Series("M1", "m1", points=[(1, 0.4), (8, 0.9)])]
    root = tree(lines("Pass@N", series, percent=True, dots=True, tooltip=lambda one, x, y: f"{one.name} {x:.0f} {y:.2f}"))
    assert [title.text for title in root.iter(f"{SVG}title")] == ["M0 1 0.20", "M0 8 0.60", "M1 1 0.40", "M1 8 0.90"]


def test_texts_are_escaped() -> None:
    series = Series("<b>", "m1", marks=[Mark(0.5, 0.4, 0.6, "<script>")])
    svg = interval_bars("<i>", ["<u>"], [series])
    assert not re.search(r"<(b|i|u|script)>", svg)
    assert "<u>" in "".join(tree(svg).itertext())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e5, 1e5)), min_size=2, max_size=30))
@example([(0.0, 0.0), (0.0, 5e-324)])
@example([(0.0, 0.0), (4.9e-59, 0.0)])
@example([(0.0, 99999.9), (1e-9, 99999.9 + 1e-10)])
def test_any_curve_can_be_drawn(points: list[tuple[float, float]]) -> None:
    svg = lines("t", [Series("s", "m1", points=sorted(points))])
    assert "nan" not in svg
    tree(svg)


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        (100, 0, [0, 20, 40, 60, 80, 100]),
        (74, 0, [0, 20, 40, 60]),
        (3.2, 0.4, [1, 2, 3]),
        (0.004, 0, [0, 0.001, 0.002, 0.003, 0.004]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers(high: float, low: float, expected: list[float]) -> None:
    assert _ticks(high, low) == pytest.approx(expected)
