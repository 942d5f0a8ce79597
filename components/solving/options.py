"""How problems get their worked solutions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from components.core.options import Options


class SolvingOptions(Options, frozen=True, kw_only=True):
    """Orca-Math: one solution per problem by the teacher; problems with a gold answer are kept where the teacher reaches it."""

    n: Annotated[int, Meta(ge=1, le=256)] = 1
    """Solutions per problem."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    """Temperature of the second and further solutions (our choice); the first is always the teacher's most likely one."""
    majority_vote: bool = False
    """With n > 1, keep only solutions that agree with the answer most of them reach; problems without a gold answer only."""
    gold_filter: bool = True
    """Where the source has a gold answer, keep only solutions that reach it."""
    use_gold_solutions: bool = False
    """Take the source's own worked solution where it has one, and ask the teacher only for the rest."""
    max_solution_chars: Annotated[int, Meta(ge=0)] = 0
    """Longer solutions are dropped; 0 for no limit. Solutions cut off at the reply's limit are always dropped."""
