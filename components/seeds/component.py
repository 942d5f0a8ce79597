"""The KFP component of this stage; imported only at compile time."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def sources_version(seeds: dict, benchmarks: dict, records: str) -> NamedTuple("Versions", [("seeds", str), ("benchmarks", str)]):
    """Hashes of what the sources hold now; never cached, so that changed files behind the same URI are noticed.

    Args:
        seeds: SeedsOptions: the sources of the seeds.
        benchmarks: SeedsOptions: those of the benchmarks.
        records: Store URI of the records of runs.

    Returns:
        A hash for each.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.version import sources_version

    with stage_run("seeds", task="version of the sources", records=records):
        given = {"seeds": seeds, "benchmarks": benchmarks}
        return tuple(sources_version(parse_options(SeedsOptions, options, role), role) for role, options in given.items())


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def collect_seeds(options: dict, seed: int, version: str, records: str, problems: Output[Dataset]) -> str:
    """Collect the seed problems from their sources; test splits are refused.

    Args:
        options: SeedsOptions: the sources.
        seed: Seed of limits and built-in problems.
        version: Hash of what the sources hold; a new one makes the cache forget this task.
        records: Store URI of the records of runs.
        problems: Problem rows.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_seeds

    with stage_run("seeds", problems, task="seeds", options=options, records=records) as stage:
        collect_seeds(Path(problems.path), parse_options(SeedsOptions, options, "seeds"), seed, stage)
    return stage.reference


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def collect_benchmarks(options: dict, seed: int, version: str, records: str, problems: Output[Dataset]) -> str:
    """Collect the dev and test problems that models are scored on.

    Args:
        options: SeedsOptions: the sources; each one is a benchmark with a name of its own.
        seed: Seed of limits and built-in problems.
        version: Hash of what the sources hold; a new one makes the cache forget this task.
        records: Store URI of the records of runs.
        problems: Problem rows.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_benchmarks

    with stage_run("seeds", problems, task="benchmarks", options=options, records=records) as stage:
        collect_benchmarks(Path(problems.path), parse_options(SeedsOptions, options, "benchmarks"), seed, stage)
    return stage.reference
