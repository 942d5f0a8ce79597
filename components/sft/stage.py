"""The student learns from the teacher's worked solutions: base model in, M1 out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from components.core.errors import EmptyOutputError
from components.core.records import Demonstration, ModelEntry, digest_of, read_records, row_id
from components.core.stage import StageRun
from components.core.store.model_files import hand_on
from components.sft.options import SFTOptions
from components.student.models.hardware import quiet
from components.student.models.load import load_chat, read_info
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed.sharding import settings_of
from components.student.training.rows import arrange, encode_rows, sft_columns
from components.student.training.train import Fit, train

NAME = "M1"


def run(base: str, train_rows: str, options: SFTOptions, stage: StageRun, *, checkpoints: str, seed: int, output: str) -> None:
    """Train M1.

    Args:
        base: Folder of the base model.
        train_rows: Demonstration rows (JSON Lines).
        options: The stage's options.
        stage: Gets counts, curve and progress.
        checkpoints: Store URI for work in progress.
        seed: Seed of the order of the rows.
        output: Model folder to write.

    Raises:
        EmptyOutputError: There is nothing to train on.
        ModelError: The model does not load, or memory runs out.
    """
    rows = list(read_records(train_rows, Demonstration))
    stage.rows_in = len(rows)
    if not rows:
        raise EmptyOutputError("sft: there are no demonstrations to train on", "see what solving and decontamination dropped")
    parent = read_info(base)
    work = Checkpoints(checkpoints, row_id("sft", parent.digest, digest_of(train_rows), settings_of(options), seed))
    quiet()
    chat = load_chat(base)
    questions, solutions = [row.question for row in rows], [row.solution for row in rows]
    fitted, counts = encode_rows(chat, questions, solutions, options.max_length, keep_all=True)
    for row, fit_in in zip(rows, fitted, strict=True):
        if not fit_in.completion:
            stage.drop("prompt_too_long", row=row)
    encoded = [row for row in fitted if row.completion]
    stage.rows_kept = len(encoded)
    stage.require_rows("rows")
    stage.counts.update(cut=counts["cut"], mean_solution_tokens=sum(len(row.completion) for row in encoded) / len(encoded))
    lengths = [len(row) for row in encoded]
    batches = [batch for epoch in range(options.epochs) for batch in arrange(lengths, options.batch_size, f"{seed} {epoch}")]
    ordered = [encoded[index] for batch in batches for index in batch]
    fit = Fit(
        kind="sft",
        columns=sft_columns(ordered),
        learning_rate=options.learning_rate,
        seed=seed,
        name=NAME,
        config={"packing": options.packing, "completion_only_loss": True},
        facts={"stage": "sft", "rows": len(encoded), "epochs": options.epochs},
    )
    info = train(base, fit, options, work, stage, output)
    hand_on(Path(output))
    work.discard()
    stage.models.append(ModelEntry(id=NAME, role="sft", parent=parent.name, stage="sft", rows=len(encoded), parameters=info.parameters))
    stage.lineage.update(model=msgspec.to_builtins(info))
