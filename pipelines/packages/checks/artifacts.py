"""What Kubeflow's record of artifacts (MLMD) and its launcher refuse."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from pipelines.packages.checks.ir import Package, Task
from pipelines.packages.checks.origins import Origin, decides_about_cache, origins


def one_name_each(package: Package) -> Iterator[str]:
    """No task and no layer gets one artifact under two names.

    MLMD has a unique key on (artifact, execution, type of event): the second name ends the driver with "AlreadyExists: Given event
    already exists", at the first run as at every other.

    Yields:
        Problems.
    """
    for task in package.all_tasks():
        sources = {name: origins(package, task, name) for name in sorted(task.artifacts)}
        for first, second in combinations(sources, 2):
            same = {origin.artifact: origin for origin in sources[first]}
            for origin in sorted(sources[second]):
                if origin.artifact in same:
                    yield (
                        f"{task.where} gets one artifact under two names, '{first}' and '{second}': both are {origin}. Leave one of "
                        "the two "
                        "out (an optional input, or a parameter that says that they are the same)."
                    )


def buckets_are_opened(package: Package) -> Iterator[str]:
    """Whoever gets a collected list also gets an artifact that is of an earlier run whenever one of the list is.

    The launcher opens the store of earlier runs only if the first artifact of some input lies there, and a list counts by its first
    one: with the first shard made anew and another one from the cache it ends with "failed to get bucket".

    Yields:
        Problems.
    """
    for task in package.all_tasks():
        if task.is_layer:
            continue
        sources = {name: origins(package, task, name) for name in sorted(task.artifacts)}
        single = {next(iter(found)).artifact for found in sources.values() if len(found) == 1 and not _collected(found)}
        for name, found in sources.items():
            for origin in sorted(_collected(found)):
                if package.task(origin.path).is_cached:
                    yield from _opened(package, task, name, origin, single)


def _collected(found: frozenset[Origin]) -> frozenset[Origin]:
    return frozenset(origin for origin in found if origin.loop is not None)


def _opened(package: Package, task: Task, name: str, origin: Origin, single: set[tuple[tuple[str, ...], str]]) -> Iterator[str]:
    sure = decides_about_cache(package, origin)
    if not any(candidate.artifact in single for candidate in sure if candidate.loop is None):
        what = (
            "one of these: " + ", ".join(str(candidate) for candidate in sorted(sure) if candidate.loop is None)
            if any(candidate.loop is None for candidate in sure)
            else f"an artifact, and {'/'.join(origin.path)} the same one: today it takes none from outside its loop"
        )
        yield (
            f"{task.where} collects {origin} as '{name}', and fails at every attempt when the first shard was made anew and another one "
            f"comes from the cache. Give it {what}."
        )
