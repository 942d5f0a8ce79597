"""What the graph of an Orca-Math run looks like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from components.core.options import Options

Rounds = Annotated[int, Meta(ge=1, le=100)]
"""Each round is written out in the compiled pipeline: a hundred take a minute to compile."""
Shards = Annotated[int, Meta(ge=1, le=1_000)]
"""Each shard is a task with a process or pod of its own, several times in a run."""


class OrcaMathShape(Options, frozen=True, kw_only=True):
    """Rounds and parallel tasks.

    Attributes:
        rounds: Practice rounds; the paper's 2 make M3.
        data_shards: Tasks that share synthesis and solving (our choice).
        sampling_shards: Tasks that share sampling and judging (our choice).
    """

    rounds: Rounds = 2
    data_shards: Shards = 1
    sampling_shards: Shards = 1
