"""How figures are written for people."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"


def percent(share: float, digits: int = 1) -> str:
    """0.67 as ``67.0 %``."""
    return f"{share * 100:.{digits}f}{NBSP}%"


def points(share: float) -> str:
    """0.024 as ``+2.4``, with a real minus sign."""
    value = round(share * 100, 1)
    sign = "+" if value > 0 else MINUS if value < 0 else "±"
    return f"{sign}{abs(value):.1f}"


def interval(low: float, high: float) -> str:
    """Interval of an accuracy: ``61.5 to 72.1 %``."""
    return f"{low * 100:.1f} to {high * 100:.1f}{NBSP}%"


def gain_interval(low: float, high: float) -> str:
    """Interval of a difference in points: ``−5.8 to +9.1``."""
    return f"{points(low)} to {points(high)}"


def integer(value: float) -> str:
    """12345.0 as ``12,345``."""
    return f"{round(value):,}"


def number(value: float) -> str:
    """A figure of unknown kind: whole numbers with separators, others with three significant digits."""
    if float(value).is_integer():
        return integer(value)
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as ``0.4 s``, ``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60:02d}{NBSP}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"


def dollars(usd: float) -> str:
    """Dollars; small sums keep the digits that matter."""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.1 else f"${usd:.4f}"


def words(name: str) -> str:
    """``answer_too_long`` as ``answer too long``."""
    return name.replace("_", " ").replace("/", " ")


def listing(items: list[str]) -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
