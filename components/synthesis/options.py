"""What the agents do with the seeds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from components.core.options import Options


class SynthesisOptions(Options, frozen=True, kw_only=True):
    """Orca-Math: Ask-Me-Anything on every seed, two rounds of Suggester and Editor, answers up to 1,800 characters."""

    ask_me_anything: bool = True
    """Turn every quantity of a seed that has a short answer into the unknown."""
    ask_me_anything_seeds: Annotated[int, Meta(ge=0)] = 0
    """How many seeds are turned round, chosen by the run's seed over all shards; 0 for all."""
    max_questions_per_seed: Annotated[int, Meta(ge=1)] = 10
    """Questions kept of one Ask-Me-Anything reply (our choice)."""
    suggester_editor: bool = True
    """Rewrite seeds towards the objective."""
    suggester_editor_seeds: Annotated[int, Meta(ge=0)] = 0
    """How many seeds are rewritten, chosen by the run's seed over all shards; 0 for all."""
    rounds: Annotated[int, Meta(ge=1, le=10)] = 2
    """Rounds of Suggester and Editor; each starts from what the one before it wrote."""
    objective: Annotated[str, Meta(min_length=1)] = "raise the difficulty"
    """What the rewriting is for."""
    max_answer_chars: Annotated[int, Meta(ge=1)] = 1800
    """A rewritten problem is dropped when the teacher's solution is longer."""
    check_solvable: bool = False
    """Let a third agent confirm that a new problem has exactly one answer; the paper's run did without."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    """Temperature of the writing agents (our choice)."""
