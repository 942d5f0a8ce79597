"""What the page shows of the run: rows, training, teacher, time, contamination, judge, parameters, lineage."""

from __future__ import annotations

import datetime
import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from components.core.records import StageRecord, Usage
from components.core.redaction import redact
from components.report.charts import Series, lines
from components.report.model_views import Figure
from components.report.tasks import Task, wall_seconds
from components.report.wording import dollars, duration, integer, number, percent, words

SHARES = ("share", "precision", "recall", "rate", "agreement", "accuracy")
"""A count with one of these in its name is shown as per cent."""


def facts(records: Sequence[StageRecord], usage: Usage) -> list[str]:
    """The line under the title: when, how much, how long, what it cost."""
    if not records:
        return []
    started = min(datetime.datetime.fromisoformat(record.started_at) for record in records)
    line = [f"{started.day} {started:%B %Y}", f"{len(records)} tasks", f"{duration(sum(record.seconds for record in records))} of work"]
    if usage.requests or usage.cache_hits:
        line.append(f"{integer(usage.requests)} teacher requests for {dollars(usage.usd)}")
    return line


def flow(tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """Rows in, kept and dropped by task and reason."""
    table = []
    for task in tasks:
        if not (task.rows_in or task.rows_kept):
            continue
        dropped = sum(task.dropped.values())
        whole = task.rows_kept + dropped or 1
        table.append(
            {
                "task": task.name,
                "shards": task.shards,
                "rows_in": integer(task.rows_in),
                "kept": integer(task.rows_kept),
                "dropped": integer(dropped),
                "kept_share": round(100 * task.rows_kept / whole, 2),
                "reasons": [(words(reason), integer(count)) for reason, count in sorted(task.dropped.items(), key=lambda item: -item[1])],
            }
        )
    return table


def counts(tasks: Iterable[Task], stage: str, names: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
    """A stage's own figures, task by task."""
    return [
        {"task": task.name, "figures": [(words(name), _count(name, value)) for name, value in task.counts.items() if names(name)]}
        for task in tasks
        if task.stage == stage and any(names(name) for name in task.counts)
    ]


def _count(name: str, value: float) -> str:
    return percent(value) if set(name.split("_")) & set(SHARES) and 0 <= value <= 1 else number(value)


def teacher(tasks: Iterable[Task], total: Usage) -> dict[str, Any] | None:
    """Requests, cache hits, tokens and cost by task; None when no task asked the teacher."""
    asked = [task for task in tasks if task.usage and (task.usage.requests or task.usage.cache_hits or task.usage.failures)]
    if not asked:
        return None
    hits = total.cache_hits / max(total.cache_hits + total.requests, 1)
    return {
        "rows": [_usage_row(task.name, task.usage) for task in asked if task.usage],
        "total": _usage_row("together", total),
        "hits": percent(hits, 0),
        "retries": integer(total.retries),
        "failures": integer(total.failures),
    }


def _usage_row(name: str, usage: Usage) -> dict[str, str]:
    return {
        "task": name,
        "requests": integer(usage.requests),
        "hits": integer(usage.cache_hits),
        "prompt": integer(usage.prompt_tokens),
        "completion": integer(usage.completion_tokens),
        "usd": dollars(usage.usd),
    }


def timing(tasks: Sequence[Task], records: Sequence[StageRecord]) -> dict[str, Any]:
    """Time by task, with bars relative to the longest."""
    longest = max((task.seconds for task in tasks), default=0.0) or 1.0
    return {
        "rows": [
            {"task": task.name, "shards": task.shards, "text": duration(task.seconds), "share": round(100 * task.seconds / longest, 2)}
            for task in tasks
        ],
        "total": duration(sum(task.seconds for task in tasks)),
        "wall": duration(wall_seconds(records)),
    }


def training(tasks: Iterable[Task], style: Callable[[str], str]) -> list[dict[str, Any]]:
    """Training curves, one group a stage: loss, reward margins, accuracy of the rewards, response length."""
    groups = []
    for stage, title in (("base_model", "Base model"), ("sft", "Supervised tuning"), ("preference_tuning", "Preference tuning and its control")):
        trained = [task for task in tasks if task.stage == stage and task.curves]
        figures = [
            figure
            for caption, note, wanted in FAMILIES
            if (figure := _family(trained, caption, note, wanted, lambda task: style(task.name))) is not None
        ]
        if figures:
            groups.append({"title": title, "figures": figures})
    return groups


FAMILIES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("Loss", "", lambda name: name in ("loss", "eval_loss")),
    ("Reward margin", "reward of the chosen answer minus reward of the rejected one", lambda name: name == "rewards/margins"),
    ("Chosen answer ranked above rejected, share", "", lambda name: name == "rewards/accuracies"),
    ("Response length, tokens", "drift here means that the model learns to talk more, or less, not better",
     lambda name: ("length" in name or "tokens" in name) and "num_tokens" not in name),
)
"""Charts of the training log: caption, note and the keys of the log that belong to it."""


def _family(
    tasks: Sequence[Task], caption: str, note: str, wanted: Callable[[str], bool], style: Callable[[Task], str]
) -> Figure | None:
    series = []
    for task in tasks:
        keys = sorted({key for row in task.curves for key in row if wanted(key)})
        for index, key in enumerate(keys):
            points = [(float(row.get("step", at)), row[key]) for at, row in enumerate(task.curves, start=1) if key in row]
            if len(points) > 1:
                name = task.name if len(keys) == 1 else f"{task.name}, {words(key)}"
                series.append(Series(name, f"{style(task)} dash{index}", points=points))
    if not series:
        return None
    return Figure(lines(caption, series, x_title="step"), caption, [(one.style, one.name) for one in series], note)


def pair_texts(chosen: str, rejected: str) -> dict[str, str]:
    """Split two answers at the first word in which they differ."""
    shared = os.path.commonprefix([chosen, rejected])
    shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]
    return {"shared": shared, "chosen": chosen[len(shared) :], "rejected": rejected[len(shared) :]}


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text) rows; secrets are left out."""
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in flatten(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [row for index, item in enumerate(value, start=1) for row in flatten(item, f"{prefix}.{index}")]
    text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return [(prefix, text if text else "—")]


def parameter_groups(parameters: Mapping[str, Any], tasks: Iterable[Task]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The run's parameters, then the options that every stage was given."""
    groups = [("pipeline", flatten(redact(parameters)))] if parameters else []
    groups += [(task.name, flatten(redact(task.options))) for task in tasks if task.options]
    return groups


def lineage_groups(tasks: Iterable[Task]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each task worked from: seed files and licences, prompts, digests."""
    groups = []
    for task in tasks:
        rows = flatten(redact(task.lineage)) + [(f"prompt {name}", version) for name, version in task.prompts.items()]
        if rows:
            groups.append((task.name, rows))
    return groups
