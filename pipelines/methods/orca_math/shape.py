"""What the graph of an Orca-Math run looks like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from components.core.options import Options

Positive = Annotated[int, Meta(ge=1)]


class OrcaMathShape(Options, frozen=True, kw_only=True):
    """Rounds and parallel tasks.

    Attributes:
        rounds: Practice rounds; the paper's 2 make M3.
        data_shards: Tasks that share synthesis and solving (our choice).
        sampling_shards: Tasks that share sampling and judging (our choice).
    """

    rounds: Positive = 2
    data_shards: Positive = 1
    sampling_shards: Positive = 1
