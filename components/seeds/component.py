"""The KFP face of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def sources_version(options: dict, role: str) -> str:
    """Hash of what the sources hold now; never cached, so that changed files behind the same URI are noticed.

    Args:
        options: SeedsOptions: the sources.
        role: "seeds" or "benchmarks".
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.version import sources_version

    with stage_run("seeds", task=f"version of the {role}"):
        return sources_version(parse_options(SeedsOptions, options, role), role)


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def collect_seeds(options: dict, seed: int, version: str, problems: Output[Dataset], record: Output[Metrics]):
    """Collect the seed problems from their sources; test splits are refused.

    Args:
        options: SeedsOptions: the sources.
        seed: Seed of limits and built-in problems.
        version: Hash of what the sources hold; a new one makes the cache forget this task.
        problems: Problem rows.
        record: What the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_seeds

    with stage_run("seeds", record, task="seeds", options=options) as stage:
        collect_seeds(Path(problems.path), parse_options(SeedsOptions, options, "seeds"), seed, stage)


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def collect_benchmarks(options: dict, seed: int, version: str, problems: Output[Dataset], record: Output[Metrics]):
    """Collect the dev and test problems that models are scored on.

    Args:
        options: SeedsOptions: the sources; each one is a benchmark with a name of its own.
        seed: Seed of limits and built-in problems.
        version: Hash of what the sources hold; a new one makes the cache forget this task.
        problems: Problem rows.
        record: What the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_benchmarks

    with stage_run("seeds", record, task="benchmarks", options=options) as stage:
        collect_benchmarks(Path(problems.path), parse_options(SeedsOptions, options, "benchmarks"), seed, stage)
