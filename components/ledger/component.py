"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def gather(
    records: str,
    ledger: Output[Artifact],
    previous: Input[Artifact] = None,
    record_1: str = "",
    record_2: str = "",
    record_3: str = "",
    record_4: str = "",
    record_5: str = "",
    shards_1: list = [],  # noqa: B006
    shards_2: list = [],  # noqa: B006
):
    """Gather what the tasks of a layer recorded about themselves, after what was recorded before.

    Args:
        records: Store URI of the records of runs.
        ledger: JSON Lines of StageRecord rows.
        previous: Ledger of the layers before.
        record_1: Address of the record of a task; likewise record_2 to record_5.
        shards_1: Addresses of the records of the shards of a task, before those of single tasks; likewise shards_2.
    """
    from pathlib import Path

    from components.core.stage import stage_run
    from components.ledger.stage import run

    references = [*shards_1, *shards_2, *filter(None, (record_1, record_2, record_3, record_4, record_5))]
    with stage_run("ledger", records=records) as stage:
        stage.rows_kept = run([Path(previous.path)] if previous else [], references, Path(ledger.path))
