"""What is kept of a race, and what its tables are made of."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.benchmarks.teacher.scenarios import Result

BARE = "bare"


class Race(msgspec.Struct, kw_only=True):
    """Everything that is kept of a race."""

    machine: dict[str, str]
    rows: int
    versions: dict[str, dict[str, str]]
    results: list[Result] = []


def machine() -> dict[str, str]:
    """What it ran on, and when."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def read_results(folder: Path) -> Race | None:
    """The race whose results lie in a folder; None where there are none."""
    path = folder / "results.json"
    return msgspec.json.decode(path.read_bytes(), type=Race) if path.is_file() else None


def joined(kept: Race | None, race: Race) -> Race:
    """A race with those results of an earlier one that it has not measured anew."""
    if kept is None:
        return race
    measured = {(each.scenario, each.client) for each in race.results}
    old = [each for each in kept.results if (each.scenario, each.client) not in measured]
    return msgspec.structs.replace(race, versions=kept.versions | race.versions, results=[*old, *race.results])


def good(race: Race, client: str, scenario: str) -> list[Result]:
    """The client's runs that came to their end."""
    return [each for each in race.results if each.client == client and each.scenario == scenario and not each.problem]


def problem(race: Race, client: str, scenario: str) -> str:
    """Why a run of the client did not; empty if all did."""
    return next((each.problem for each in race.results if each.client == client and each.scenario == scenario and each.problem), "")


def median(race: Race, client: str, scenario: str, value: Callable[[Result], float]) -> float | None:
    """Of the runs that came to their end; None if there is none."""
    runs = good(race, client, scenario)
    return statistics.median(map(value, runs)) if runs else None


def against_bare(race: Race, client: str, scenario: str) -> float | None:
    """The median of the ratios of times within the same repetition; None if there is none."""
    bare = {each.repetition: each.seconds for each in good(race, BARE, scenario)}
    ratios = [each.seconds / bare[each.repetition] for each in good(race, client, scenario) if each.repetition in bare]
    return statistics.median(ratios) if ratios else None


def against_ideal(result: Result) -> float:
    """Its time as a multiple of the ideal one."""
    return result.seconds / result.ideal_s


def cpu_ms(result: Result) -> float:
    """Processor time of the client for a request that was needed, in milliseconds, without its start."""
    return 1000 * (result.cpu_s - result.start_cpu_s) / result.needed
