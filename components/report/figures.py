"""What a person compares between runs, as numbers with names: Kubeflow shows them side by side (*Compare runs*).

It sorts the rows by the number of runs that have them, then by name (its ``CompareUtils.ts``), so that the names begin with what comes
first: accuracy, then cost, gain, hours, rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.core.ledger.reader import Ledger
from components.report.summary import Summary
from components.stats.differences import Difference

FEW = 3
"""Most benchmarks that are shown one by one; of more, only the main one."""
ROWS = {"seeds": "seeds", "problems": "synthesis", "demonstrations": "contamination", "preference pairs": "preferences"}
"""What is counted, and the stage whose tasks kept it."""


def headline_figures(ledger: Ledger, summary: Summary) -> dict[str, float]:
    """The figures of a run.

    Args:
        ledger: Ledger of the run.
        summary: Summary of the same ledger.

    Returns:
        Name to number: percent of problems for accuracies, percentage points for gains, dollars, hours of all tasks together, rows.
    """
    main = summary.main_benchmark
    benchmarks = sorted({name for model in summary.models for name in model.benchmarks}, key=lambda name: (name != main, name))
    figures: dict[str, float] = {}
    for name in benchmarks if len(benchmarks) <= FEW else benchmarks[:1]:
        for model in summary.models:
            if name in model.benchmarks:
                figures[f"accuracy % {model.name}{'' if name == main else f' on {name}'}"] = _percent(model.benchmarks[name].pass_at_1)
    figures |= {"cost, $": round(summary.usage.usd, 2), "hours of all tasks": round(ledger.seconds / 3600, 2)}
    figures |= _gain("gain over the base", [change for change in summary.growth if change.benchmark == main])
    figures |= _gain("gain over the control", [change for change in summary.controls if change.benchmark == main])
    for what, stage in ROWS.items():
        kept = [task.rows_kept for task in ledger.of_stage(stage) if task.name != "benchmarks"]
        if kept:
            figures[f"rows: {what}"] = float(sum(kept))
    usage = summary.usage
    return figures | {
        "teacher: requests paid": float(usage.requests),
        "teacher: tokens": float(usage.prompt_tokens + usage.completion_tokens),
    }


def _gain(name: str, changes: Sequence[Difference]) -> dict[str, float]:
    """The last of the changes, with its interval."""
    if not changes:
        return {}
    last = changes[-1]
    return {
        f"{name}, points": _percent(last.gain),
        f"{name}, points, 95 % from": _percent(last.low),
        f"{name}, points, 95 % to": _percent(last.high),
    }


def _percent(share: float) -> float:
    return round(100 * share, 1)
