"""What a dry run found, for people and for programs."""

from __future__ import annotations

import msgspec

from components.core.metrics.progress import clock
from pipelines.forecast.ranges import Figure, Forecast, LimitForecast


def as_json(found: Forecast) -> str:
    """The figures, each with its range, for programs."""
    return msgspec.json.format(msgspec.json.encode(_plain(found)), indent=2).decode()


def text(found: Forecast) -> str:
    """A table, and what is to be said about it."""
    lines = [f"{found.problems.value:,.0f} training problems of {found.seeds:,} seeds", ""]
    lines.append(
        f"{'teacher':<12}" + "".join(f"{name:>26}" for name in ("requests", "tokens", "dollars")) + f"{'time':>10}{'in the store':>14}"
    )
    for name, stage in found.stages.items():
        tokens = Figure(*(a + b for a, b in zip(stage.prompt_tokens, stage.reply_tokens, strict=True)))
        duration = "unknown" if stage.seconds is None else clock(stage.seconds)
        cells = f"{_range(stage.requests):>26}{_range(tokens):>26}{_range(stage.usd, 2):>26}"
        lines.append(f"{name:<12}{cells}{duration:>10}{stage.stored_ratio:>14.0%}")
    lines += [f"{'all':<12}{'':>52}{_range(found.usd, 2):>26}", ""]
    lines += _remarks(found)
    for limit in found.limits:
        lines.append(_limit(limit))
    return "\n".join(lines)


def _remarks(found: Forecast) -> list[str]:
    usage = found.sample
    taken = ", ".join(f"{count} {found.titles[kind]}" for kind, count in found.units.items())
    lines = [
        f"sample: {taken}",
        f"  it cost {usage.usd:,.4f} dollars: {usage.requests:,} requests, {usage.prompt_tokens + usage.completion_tokens:,} tokens; "
        f"{usage.cache_hits:,} more were answered by the response store",
        "  kept: " + ", ".join(f"{ratio:.0%} of the {name}" for name, ratio in found.kept_ratio.items()),
        "  the run finds these replies in the store and does not pay for them again",
        *(f"  {remark}" for remark in found.remarks),
    ]
    if found.stopped:
        lines.append(f"  it was not taken whole: {found.stopped}")
    lines.append("range: what nine of ten redraws of the sample come to; a larger --sample makes it narrower")
    bounds = [f"{name}: {stage.bound}" for name, stage in found.stages.items() if stage.bound]
    if bounds:
        lines.append("time for what is not in the store: " + "; ".join(bounds))
    if any(stage.seconds is None for stage in found.stages.values()):
        lines.append("time unknown: every request of the sample was in the store already; a larger --sample asks some more")
    return lines


def _limit(limit: LimitForecast) -> str:
    needed = _range(limit.needed, 2 if "usd" in limit.name else 0)
    end = {
        "within": "",
        "may be exceeded": ": may be exceeded",
        "exceeded": ": EXCEEDED, the run will stop before its end; raise the limit, or ask for less",
    }[limit.verdict]
    return f"{limit.name} = {limit.maximum:,g}: the run needs {needed} beyond what is in the store{end}"


def _range(figure: Figure, places: int = 0) -> str:
    middle, low, high = (f"{value:,.{places}f}" for value in figure)
    return middle if low == high else f"{middle} ({low}-{high})"


def _plain(found: Forecast) -> dict[str, object]:
    """Named tuples as mappings."""
    plain: dict[str, object] = msgspec.to_builtins(found)
    plain["problems"] = found.problems._asdict()
    plain["stages"] = {
        name: {field: value._asdict() if isinstance(value, Figure) else value for field, value in stage._asdict().items()}
        for name, stage in found.stages.items()
    }
    plain["limits"] = [{**limit._asdict(), "needed": limit.needed._asdict()} for limit in found.limits]
    plain["usd"] = found.usd._asdict()
    return plain
