"""The few lines that a finished run prints."""

from __future__ import annotations

from components.core.metrics.progress import clock
from components.core.records import Usage
from pipelines.runs.record import RunRecord


def paid(usage: Usage) -> str:
    """What was asked of the teacher, in a line."""
    return (
        f"teacher: {usage.requests:,} requests paid, {usage.cache_hits:,} from the response store, "
        f"{usage.prompt_tokens + usage.completion_tokens:,} tokens, ${usage.usd:.2f}"
    )


def text(record: RunRecord) -> str:
    """A table of models and benchmarks, and what it cost."""
    benchmarks = list(dict.fromkeys(name for model in record.models for name in model.benchmarks))
    width = max([len(model.name) for model in record.models] + [5])
    lines = ["", f"{'model':<{width}}  " + "  ".join(f"{name:>24}" for name in benchmarks)]
    for model in record.models:
        cells = []
        for name in benchmarks:
            score = model.benchmarks.get(name)
            cells.append(f"{score.pass_at_1:6.1%} [{score.low:.1%}, {score.high:.1%}]" if score else "-")
        lines.append(f"{model.name:<{width}}  " + "  ".join(f"{cell:>24}" for cell in cells))
    lines += ["", paid(record.usage)]
    cached = sum(bool(stage.cached) for stage in record.stages)
    lines.append(f"time: {clock(record.seconds)}; {len(record.stages)} stage tasks, {cached} of them from the cache")
    lines += [f"left out: {stage.task}: {stage.left_out}" for stage in record.stages if stage.left_out]
    if record.promotion:
        lines.append(f"champion: {record.promotion.get('reason', '')}")
    return "\n".join(lines)
