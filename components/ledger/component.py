"""The KFP face of this stage; imported only at compile time."""

from typing import List

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def gather(
    ledger: Output[Artifact],
    previous: Input[Artifact] = None,
    ledger_of_round: Input[Artifact] = None,
    record_1: Input[Metrics] = None,
    record_2: Input[Metrics] = None,
    record_3: Input[Metrics] = None,
    record_4: Input[Metrics] = None,
    record_5: Input[Metrics] = None,
    record_6: Input[Metrics] = None,
    records_1: Input[List[Metrics]] = None,
    records_2: Input[List[Metrics]] = None,
):
    """Gather what tasks recorded about themselves into one ledger.

    Args:
        ledger: JSON Lines of StageRecord rows.
        previous: Ledger of the tasks before these.
        ledger_of_round: Ledger of a practice round, put after ``previous``.
        record_1: Record of a task; likewise record_2 to record_6.
        records_1: Records of the shards of a task; likewise records_2.
    """
    from pathlib import Path

    from components.core.stage import stage_run
    from components.ledger.stage import run

    lists = [records_1, records_2]
    singles = [record_1, record_2, record_3, record_4, record_5, record_6]
    records = [item for many in lists for item in many or []] + [item for item in singles if item]
    ledgers = [item for item in (previous, ledger_of_round) if item]
    with stage_run("ledger") as stage:
        stage.rows_kept = run([Path(item.path) for item in ledgers], [Path(item.path) for item in records], Path(ledger.path))
