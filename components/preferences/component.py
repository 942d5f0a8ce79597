"""The KFP component of this stage; imported only at compile time."""

from typing import List

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def build_preferences(
    judged: Input[List[Dataset]],
    train: Input[Dataset],
    options: dict,
    round: int,
    seed: int,
    records: str,
    pairs: Output[Dataset],
    labelled: Output[Dataset],
) -> str:
    """Pair right with wrong responses (DPO) and label them one by one (KTO).

    Args:
        judged: Student responses with verdicts, one file per shard.
        train: Demonstrations; their solutions are positives.
        options: PreferenceOptions: what is paired with what.
        round: Practice round, 1 for the responses of M1.
        seed: Seed of every choice and order.
        records: Store URI of the records of runs.
        pairs: PreferencePair rows.
        labelled: LabelledResponse rows.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.preferences.options import PreferenceOptions
    from components.preferences.stage import run

    with stage_run("preferences", pairs, task=f"preferences M{round}", round_number=round, options=options, records=records) as stage:
        parsed, files = parse_options(PreferenceOptions, options, "preferences"), [Path(item.path) for item in judged]
        run(files, Path(train.path), Path(pairs.path), Path(labelled.path), parsed, stage, seed=seed + round)
    return stage.reference
