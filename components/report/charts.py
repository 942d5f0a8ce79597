"""Charts as light inline SVG: pygal lays them out, the page's own style sheet colours them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

SVG = "http://www.w3.org/2000/svg"
WIDTH = 380
"""Units across; a phone of 390 px shows a chart at about its natural size, so that label sizes hold."""
HEIGHT = 250
LABEL = 12.5
"""Size of all chart texts, in the same units."""
MAX_POINTS = 160
"""Longer curves are thinned: no screen shows more, and the page stays small."""

DECIMALS = 9
"""Coordinates are rounded to so many decimals: no axis can be divided into steps below the resolution of floats."""

ElementTree.register_namespace("", SVG)


@dataclass(frozen=True)
class Mark:
    """One value with its interval, as a bar."""

    value: float | None
    low: float = 0.0
    high: float = 0.0
    tooltip: str = ""
    style: str = ""
    """CSS class that colours it; that of its series when empty."""


@dataclass(frozen=True)
class Series:
    """One line or one set of bars.

    Attributes:
        name: Shown in the legend and in tooltips.
        style: CSS class that colours it (``m0``, ``control``, ...).
        marks: Bars, one a group (bar charts).
        points: (x, y) pairs (line charts).
        smooth: Draw a moving average, with the points themselves faint behind it.
    """

    name: str
    style: str
    marks: Sequence[Mark] = ()
    points: Sequence[tuple[float, float]] = ()
    smooth: bool = False


class _IntervalBar(pygal.Bar):  # type: ignore[misc]
    """Bars whose values stand above the whisker of the interval; a bar that is alone in its group stands in the middle of it."""

    def _bar(self, serie: Any, parent: Any, x: float, y: float, i: int, *args: Any, **kwargs: Any) -> Any:
        alone = sum(other.values[i] is not None for other in self.series) == 1
        slot = (1 - 2 * self._series_margin) / self._len / self._order
        shift = slot * ((self._order - 1) / 2 - serie.index) if alone else 0.0
        return super()._bar(serie, parent, x + shift, y, i, *args, **kwargs)

    def _static_value(self, serie_node: Any, value: str, x: float, y: float, metadata: Any, *args: Any, **kwargs: Any) -> None:
        high = (metadata or {}).get("ci", {}).get("high")
        top = y if high is None else self.view.y(high) - 0.6 * LABEL
        super()._static_value(serie_node, value, x, top, metadata, *args, **kwargs)


def _config(**more: Any) -> dict[str, Any]:
    style = Style(
        label_font_size=LABEL, major_label_font_size=LABEL, value_font_size=LABEL, title_font_size=LABEL, font_family="sans-serif"
    )
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "style": style,
        "css": [],
        "js": [],
        "show_legend": False,
        "margin": 4,
        "margin_top": 10,
        "margin_right": 12,
        "spacing": 4,
        "truncate_label": -1,
        "disable_xml_declaration": True,
        **more,
    }


def interval_bars(title: str, groups: Sequence[str], series: Sequence[Series]) -> Markup:
    """Grouped bars of accuracies with their intervals.

    Args:
        title: What the chart shows, for screen readers.
        groups: Labels under the groups of bars.
        series: Each with one mark a group; values from 0 to 1.
    """
    top = max((mark.high for one in series for mark in one.marks if mark.value is not None), default=1.0)
    ceiling = min(1.0, max(0.1, top + 0.07))
    chart = _IntervalBar(
        **_config(
            range=(0, ceiling * 100),
            print_values=True,
            rounded_bars=2,
            value_formatter=lambda value: f"{value:.0f}",
            y_labels=_ticks(ceiling * 100),
        )
    )
    chart.x_labels = list(groups)
    for one in series:
        chart.add(
            one.name,
            [
                None
                if mark.value is None
                else {
                    "value": mark.value * 100,
                    "ci": {"low": mark.low * 100, "high": mark.high * 100},
                    "formatter": lambda value: f"{value:.1f}",
                    "node": {"class": mark.style or one.style},
                }
                for mark in one.marks
            ],
        )
    tips = [[mark.tooltip for mark in one.marks if mark.value is not None] for one in series]
    return _finish(chart, title, series, tips)


def lines(
    title: str,
    series: Sequence[Series],
    *,
    percent: bool = False,
    x_labels: Sequence[float] | None = None,
    x_title: str = "",
    dots: bool = False,
    tooltip: Callable[[Series, float, float], str] | None = None,
) -> Markup:
    """Lines over a numeric axis.

    Args:
        title: What the chart shows, for screen readers.
        series: Each with its points; y from 0 to 1 when ``percent``.
        percent: Show y as per cent, from 0.
        x_labels: Positions of the labels on the x axis; chosen when None.
        x_title: Written under the x axis.
        dots: Mark every point.
        tooltip: Text shown when the pointer rests on a point; needs ``dots``.
    """
    scale = 100.0 if percent else 1.0
    series = [part for one in series for part in _smoothed(one)]
    thinned = [[(round(float(x), DECIMALS), round(y * scale, DECIMALS)) for x, y in _thin(one.points)] for one in series]
    values = [y for points in thinned for _, y in points]
    positions = [x for points in thinned for x, _ in points]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if percent:
        low, high = 0.0, min(100.0, high * 1.1 + 3)
    elif low == high:
        low, high = low - 0.5, high + 0.5
    ticks = _ticks(high, low)
    extra: dict[str, Any] = {"x_title": x_title} if x_title else {}
    chart = pygal.XY(
        **_config(
            range=(min(low, ticks[0]), max(high, ticks[-1])),
            show_dots=dots,
            dots_size=4,
            value_formatter=_tick_text,
            x_value_formatter=_tick_text,
            y_labels=ticks,
            **extra,
        )
    )
    chart.x_labels = list(x_labels) if x_labels is not None else _ticks(max(positions, default=1.0), min(positions, default=0.0))
    for one, points in zip(series, thinned, strict=True):
        chart.add(one.name, points)
    tips = [
        [tooltip(one, x, y / scale) if tooltip else f"{one.name}: {_tick_text(y)} at {_tick_text(x)}" for x, y in points]
        for one, points in zip(series, thinned, strict=True)
    ]
    return _finish(chart, title, series, tips)


def _smoothed(series: Series) -> list[Series]:
    """A noisy series as a faint line of its points and a line of their centred moving average over a tenth of the points."""
    reach = len(series.points) // 20
    if not series.smooth or reach < 1:
        return [series]
    values = [y for _, y in series.points]
    windows = [values[max(0, at - reach) : at + reach + 1] for at in range(len(values))]
    mean = [(x, sum(window) / len(window)) for (x, _), window in zip(series.points, windows, strict=True)]
    return [dataclasses.replace(series, style=f"{series.style} raw"), dataclasses.replace(series, points=mean)]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = -(-len(points) // MAX_POINTS) or 1
    return list(points[::stride])


def _ticks(high: float, low: float = 0.0) -> list[float]:
    """Four to six round numbers from ``low`` to ``high``."""
    span = high - low or 1.0
    decade = 10.0 ** math.floor(math.log10(span / 4))
    step = decade * min(factor for factor in (1, 2, 2.5, 5, 10) if span / (decade * factor) <= 5.5)
    first = math.ceil(low / step) * step
    count = int((high - first) / step + 1e-9) + 1
    return [round(first + index * step, 10) for index in range(max(count, 1))]


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _finish(chart: Any, title: str, series: Sequence[Series], tips: Sequence[Sequence[str]]) -> Markup:
    """Strip what needs scripts or would differ between two renderings, name the series' colours, write tooltips as titles."""
    root = ElementTree.fromstring(chart.render(is_unicode=True))
    root.attrib.pop("id", None)
    root.attrib.update({"class": "chart", "role": "img", "aria-label": title})
    for parent in list(root.iter()):
        for child in list(parent):
            tag, css = child.tag.removeprefix(f"{{{SVG}}}"), child.get("class", "")
            if tag in ("defs", "desc", "title") or "tooltip-overlay" in css or css == "background":
                parent.remove(child)
    for group in root.iter(f"{{{SVG}}}g"):
        match = re.fullmatch(r"series serie-(\d+) color-\d+", group.get("class", ""))
        if match:
            index = int(match.group(1))
            group.set("class", f"series {series[index].style}")
            marks = [node for node in group.iter(f"{{{SVG}}}g") if node.get("class") in ("bar", "dots")]
            for node, tip in zip(marks, tips[index], strict=False):
                title_node = ElementTree.SubElement(node, f"{{{SVG}}}title")
                title_node.text = tip
    for node in root.iter():
        for name in ("x", "y", "width", "height", "cx", "cy", "d"):
            if name in node.attrib:
                node.set(name, re.sub(r"-?\d+\.\d+", lambda found: f"{float(found.group()):.1f}".removesuffix(".0"), node.attrib[name]))
        if not node.get("class", "x"):
            del node.attrib["class"]
    # The tree was built from numbers and escaped texts by the XML writer, so that it is safe to place in the page as it is.
    return Markup(ElementTree.tostring(root, encoding="unicode"))
