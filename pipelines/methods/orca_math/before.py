"""What follows from the options of an Orca-Math run before its work."""

from __future__ import annotations

from components.judging.options import JudgingOptions
from components.seeds.options import SeedsOptions
from components.solving.options import SolvingOptions
from components.synthesis.options import SynthesisOptions
from pipelines.methods.method import Sections

ALWAYS_SOLVED = frozenset({"builtin", "gsm8k"})
"""Sets in which every problem has a worked solution."""


def asked(sections: Sections) -> list[str]:
    """Sections of the teachers that the run may ask: those of stages that need none are not looked for.

    Args:
        sections: The checked options.
    """
    synthesis, solving, judging, seeds = (sections[name] for name in ("synthesis", "solving", "judging", "seeds"))
    assert isinstance(synthesis, SynthesisOptions) and isinstance(solving, SolvingOptions)
    assert isinstance(judging, JudgingOptions) and isinstance(seeds, SeedsOptions)
    solved = solving.use_gold_solutions and all(source.adapter in ALWAYS_SOLVED for source in seeds.sources)
    writes = synthesis.ask_me_anything or synthesis.suggester_editor
    needed = {"teacher": writes or not solved, "judge_teacher": judging.judge != "rule_only" or judging.measure_teacher}
    return [name for name, is_needed in needed.items() if is_needed]


def warnings(sections: Sections) -> list[str]:
    """What a person should know about a run before its work, though it is no error.

    Args:
        sections: The checked options.
    """
    benchmarks = sections["benchmarks"]
    assert isinstance(benchmarks, SeedsOptions)
    if any(source.dev_share or source.split_read(seeds=False) == "dev" for source in benchmarks.sources):
        return []
    return [
        "no benchmark has dev problems, so nothing can be promoted: whether a model is better is decided on dev problems alone; "
        "give benchmarks.sources one with split: dev, or a train split with a dev_share"
    ]
