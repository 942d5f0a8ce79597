"""How a training is spread over processes: the same rows in every update, whatever their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.student.options import TrainingOptions

FREE = frozenset({"processes", "nodes", "cluster", "threads", "checkpoint_seconds"})
"""Options that say where a training computes and how it is kept safe, and not what it computes."""


@dataclass(frozen=True)
class Spread:
    """A training on several processes.

    Attributes:
        local: Processes on each node.
        nodes: Number of nodes.
        batch: Rows per process and step.
        accumulation: Steps gathered into one update.
    """

    local: int
    nodes: int
    batch: int
    accumulation: int

    @property
    def processes(self) -> int:
        """Processes in all."""
        return self.local * self.nodes


def spread_of(options: TrainingOptions, kind: str, local: int) -> Spread:
    """Divide an update's rows among the processes.

    The accumulation is divided first: each process then computes as many rows at once as were asked for. What is left of the
    number of processes divides the batch.

    Args:
        options: Batch size, accumulation, number of nodes.
        kind: ``sft``, ``dpo`` or ``kto``.
        local: Processes on each node.

    Raises:
        ParameterError: The rows of an update cannot be divided equally.
    """
    # KTO compares a row's response with one of another row of its batch.
    batch, accumulation = options.share(local * options.nodes, 2 if kind == "kto" else 1, options.SECTION)
    return Spread(local, options.nodes, batch, accumulation)


def settings_of(options: TrainingOptions) -> dict[str, Any]:
    """The options that the trained model depends on, for the key of its checkpoints."""
    import msgspec

    return {name: value for name, value in msgspec.to_builtins(options).items() if name not in FREE}


def fill_up(columns: Mapping[str, Sequence[Any]], kind: str, spread: Spread) -> dict[str, list[Any]]:
    """Rows in a number that the processes share equally at every step.

    The last step of a training is short as a rule. For SFT the rows added to it carry no loss, so that the update is that of one
    process. For DPO and KTO, whose losses are means over rows, that step's own rows are repeated.

    Args:
        columns: Token-id columns of the trainer.
        kind: ``sft``, ``dpo`` or ``kto``.
        spread: Rows per process and step.
    """
    step = spread.batch * spread.processes
    rows = len(next(iter(columns.values())))
    missing = -rows % step
    filled = {name: list(column) for name, column in columns.items()}
    if kind == "sft":
        pad = filled["input_ids"][0][:2]
        filled["input_ids"] += [pad] * missing
        filled["labels"] += [[-100] * len(pad)] * missing
        return filled
    last = rows - rows % step
    return {name: column + [column[last + index % (rows - last)] for index in range(missing)] for name, column in filled.items()}
