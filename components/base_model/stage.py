"""The model to teach: fetched, or, for ``tiny``, built and briefly pretrained on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import ParameterError
from components.core.model_files import hand_on
from components.core.records import Problem, normalise_question, problem_id, read_records, write_records
from components.core.stage import StageRun
from components.student.chat import Chat
from components.student.hardware import prepare
from components.student.load import load_gguf, load_pretrained, localise, package_file, save_student
from components.student.options import StudentOptions

NAME = "M0"


def run(benchmarks: str, options: StudentOptions, stage: StageRun, *, seed: int, output: str, corpus: str) -> None:
    """Make the base model's folder.

    Args:
        benchmarks: Problem rows whose questions the tiny model's corpus must not hold.
        options: Which model.
        stage: Gets counts and, for ``tiny``, progress and the training curve.
        seed: Of the tiny model.
        output: Model folder to write.
        corpus: Where to write the tiny model's pretraining problems, for the contamination check; empty for other models.

    Raises:
        ModelError: The model cannot be found, fetched or loaded; says what to do.
    """
    prepare(options)
    rows: list[Problem] = []
    if options.base_model == "tiny":
        model, tokenizer, rows = _tiny(benchmarks, options, stage, seed)
    else:
        model, tokenizer = _load(options)
    Chat(options.chat_format, tokenizer)
    info = save_student(output, model, tokenizer, name=NAME, base_model=options.base_model, chat_format=options.chat_format)
    write_records(corpus, rows)
    stage.counts["parameters"] = info.parameters
    hand_on(Path(output))
    stage.lineage.update(model=msgspec.to_builtins(info))


def _load(options: StudentOptions) -> tuple[Any, Any]:
    source = options.base_model
    if source.startswith(("package:", "gguf:")):
        kind, _, name = source.partition(":")
        model, tokenizer = load_gguf(package_file(name) if kind == "package" else Path(name))
    else:
        model, tokenizer = load_pretrained(str(localise(source)), dtype="auto", revision=options.revision)
    if options.dtype != "auto":
        import torch

        model = model.to(getattr(torch, options.dtype))
    return model, tokenizer


def _tiny(benchmarks: str, options: StudentOptions, stage: StageRun, seed: int) -> tuple[Any, Any, list[Problem]]:
    from components.student import tiny

    if options.chat_format == "template":
        raise ParameterError("base_model.chat_format", "template", "plain or paper, since the tiny model has no chat template")
    avoid = {normalise_question(row.question) for row in read_records(benchmarks, Problem)}
    stage.rows_in = len(avoid)
    model, tokenizer, made, curve = tiny.build(
        options.tiny, options.chat_format, seed, avoid, lambda done, total: stage.progress(done, total, "steps")
    )
    stage.curves.extend(curve)
    rows = [
        Problem(
            id=problem_id(row.question),
            source="tiny_corpus",
            split="train",
            question=row.question,
            answer=row.answer,
            steps=row.steps,
            licence="Apache-2.0",
            method="pretraining",
            maker="word_problems",
        )
        for row in made
    ]
    stage.rows_kept = len(rows)
    return model, tokenizer, rows
