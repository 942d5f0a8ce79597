"""Reruns a profile over seeds and arms, and compares what comes out, paired by seed.

A difference of two accuracies from one seed says little (its standard error on 300 problems is close to 3 points), so every
comparison is made within a seed and its interval is taken over the seeds: Student's t on the paired differences.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from components.core.errors import ParameterError
from components.core.ledger.reader import steps
from components.report.rounds import rounds_left_out
from components.seeds.options import SeedsOptions
from components.stats.paired import paired_interval
from pipelines.local.runner import require_home, run_profile
from pipelines.parameters import profile as parameters
from pipelines.parameters.profile import RunOptions
from pipelines.parameters.required_files import require_files
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord


def parse_arms(texts: Sequence[str]) -> dict[str, list[str]]:
    """``name:setting;setting`` to name and settings; without arms the profile as it is.

    Raises:
        ParameterError: No colon, an empty or repeated name.
    """
    arms: dict[str, list[str]] = {}
    for text in texts:
        name, separator, settings = text.partition(":")
        if not separator or not name or name in arms:
            raise ParameterError(
                "--arm", text, "NAME:SETTING[;SETTING...] with a name of its own, for example kto:preference_tuning.method=kto"
            )
        arms[name] = [setting for setting in settings.split(";") if setting]
    return arms or {"default": []}


def parse_seeds(text: str) -> list[int]:
    """``0,1,2`` to numbers.

    Raises:
        ParameterError: Not whole numbers, or repeated.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ParameterError("--seeds", text, "whole numbers separated by commas") from error
    if len(set(seeds)) != len(seeds):
        raise ParameterError("--seeds", text, "each seed once")
    return seeds


def run_study(profile: str, arms: Sequence[str], seeds: str, home: str, stores: Mapping[str, str] | None = None) -> str:
    """Run every arm with every seed and return the tables as Markdown.

    Args:
        profile: Name or path of a profile.
        arms: See ``parse_arms``.
        seeds: See ``parse_seeds``.
        home: Folder of all runs; what an earlier run finished is taken from its caches.
        stores: Store URIs, as for ``run_profile``.

    Raises:
        ParameterError: An arm, a seed, a file or a parameter is wrong; checked for all arms before the first run.
    """
    parsed, numbers = parse_arms(arms), parse_seeds(seeds)
    plans = {(name, seed): parameters.load(profile, [*changes, f"seed={seed}"]) for name, changes in parsed.items() for seed in numbers}
    _require_comparable(plans)
    for options in plans.values():
        require_files(options, profile)
    require_home(home)
    records: dict[str, list[RunRecord]] = {name: [] for name in parsed}
    for (name, _seed), options in plans.items():
        records[name].append(run_record.read(run_profile(profile, options, home, stores)))
    return table(records, numbers)


def _require_comparable(plans: Mapping[tuple[str, int], RunOptions]) -> None:
    """Refuse arms that measure different problems under one name: their differences would say nothing about the models.

    Raises:
        ParameterError: There are such arms.
    """
    known: dict[str, tuple[str, object]] = {}
    for (arm, _seed), options in plans.items():
        for source in options.section(SeedsOptions, "benchmarks").sources:
            other, same = known.setdefault(source.label, (arm, source))
            if source != same:
                raise ParameterError("--arm", arm, f"benchmarks that are those of the arm {other!r}, or have other names: {source.label}")


def _accuracies(records: Sequence[RunRecord], model: str, benchmark: str) -> list[float]:
    return [
        row.benchmarks[benchmark].pass_at_1
        for record in records
        for row in record.models
        if row.name == model and benchmark in row.benchmarks
    ]


def table(records: dict[str, list[RunRecord]], seeds: Sequence[int]) -> str:
    """Markdown tables: accuracy by arm, model and seed; then the paired differences.

    Args:
        records: Arm to its finished runs, in the order of ``seeds``.
        seeds: The seeds.
    """
    lines: list[str] = []
    for benchmark in dict.fromkeys(name for runs in records.values() for model in runs[0].models for name in model.benchmarks):
        measured = {arm: runs for arm, runs in records.items() if any(benchmark in model.benchmarks for model in runs[0].models)}
        lines += [f"### {benchmark}", "", "| arm | model | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean (sd) |"]
        lines.append("| --- | --- |" + " --- |" * (len(seeds) + 1))
        for arm, runs in measured.items():
            for model in (row.name for row in runs[0].models if benchmark in row.benchmarks):
                values = _accuracies(runs, model, benchmark)
                spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
                cells = " | ".join(f"{value:.3f}" for value in values)
                lines.append(f"| {arm} | {model} | {cells} | {statistics.fmean(values):.3f}{spread} |")
        lines += ["", "| paired difference, in points | mean | 95 % interval |", "| --- | --- | --- |"]
        for label, first, second in _comparisons(measured, benchmark):
            mean, low, high = paired_interval(first, second)
            lines.append(f"| {label} | {100 * mean:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} |")
        lines.append("")
    for arm, runs in records.items():
        for seed, run in zip(seeds, runs, strict=True):
            lines += [f"{arm}, seed {seed}: {sentence}" for sentence in _left_out(run).values()]
    return "\n".join(lines)


def _left_out(run: RunRecord) -> dict[str, str]:
    """Model to a sentence, for the models of practice rounds that were left out."""
    return {round_.model: round_.sentence for round_ in rounds_left_out(run.models)}


def _comparisons(records: dict[str, list[RunRecord]], benchmark: str) -> list[tuple[str, list[float], list[float]]]:
    """Each model against its matched control, then each arm against the first arm: its newest model that both have."""
    rows = []
    first_arm = next(iter(records))
    first_names = [row.name for row in records[first_arm][0].models]
    for arm, runs in records.items():
        measured = [model for model in runs[0].models if benchmark in model.benchmarks]
        names = {model.name for model in measured}
        for control in measured:
            name = control.control_of
            if name in names:
                # Where a round was left out, the two are one model.
                compared = [run for run in runs if name not in _left_out(run)]
                both = (_accuracies(compared, name, benchmark), _accuracies(compared, control.name, benchmark))
                if compared:
                    rows.append((f"{arm}: {name} - {control.name}", *both))
        student = [model.name for model in steps(measured) if model.name in first_names]
        if arm != first_arm and student:
            last = student[-1]
            both = (_accuracies(runs, last, benchmark), _accuracies(records[first_arm], last, benchmark))
            if len(both[0]) == len(both[1]):
                rows.append((f"{last}: {arm} - {first_arm}", *both))
    return rows
