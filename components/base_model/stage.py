"""The model to teach: fetched, built and briefly pretrained on the spot (``tiny``), or the champion of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import ParameterError, StoreError
from components.core.records import Demonstration, ModelEntry, Problem, normalise_question, problem_id, read_records, write_records
from components.core.stage import StageRun
from components.core.store import fetched
from components.core.store.model_files import INFO, hand_on
from components.student.models.chat import Chat
from components.student.models.hardware import prepare
from components.student.models.load import ModelInfo, load_gguf, load_pretrained, localise, package_file, read_info, save_student
from components.student.options import StudentOptions

NAME = "M0"


def run(benchmarks: str, options: StudentOptions, stage: StageRun, *, start: str = "", seed: int, output: str, corpus: str) -> None:
    """Make the base model's folder.

    Args:
        benchmarks: Problem rows whose questions the tiny model's corpus must not hold.
        options: Which model.
        stage: Gets counts and, for ``tiny``, progress and the training curve.
        start: URI of the published version to start from; empty to start from the base model.
        seed: Seed of the tiny model.
        output: Model folder to write.
        corpus: Where to write the problems that the model has seen in pretraining (``tiny``) or as a student (a published
            version), for the contamination check; an empty file for other models.

    Raises:
        ModelError: The model cannot be found, fetched or loaded; says what to do.
    """
    prepare(options)
    rows: list[Problem] = []
    origin, chat_format = options.base_model, str(options.chat_format)
    if start:
        model, tokenizer, rows, chat_format = _version(start, options)
        origin = start
    elif options.base_model == "tiny":
        model, tokenizer, rows = _tiny(benchmarks, options, stage, seed)
    else:
        model, tokenizer = _load(options)
    Chat(chat_format, tokenizer)
    info = save_student(output, model, tokenizer, name=NAME, base_model=origin, chat_format=chat_format)
    write_records(corpus, rows)
    stage.counts["parameters"] = info.parameters
    stage.models.append(ModelEntry(id=NAME, role="base", stage="base_model", rows=stage.rows_kept, parameters=info.parameters))
    hand_on(Path(output))
    stage.lineage.update(model=msgspec.to_builtins(info))


def _load(options: StudentOptions) -> tuple[Any, Any]:
    source = options.base_model
    if source.startswith(("package:", "gguf:")):
        kind, _, name = source.partition(":")
        model, tokenizer = load_gguf(package_file(name) if kind == "package" else Path(name))
    else:
        model, tokenizer = load_pretrained(str(localise(source)), dtype="auto", revision=options.revision)
    return _in_dtype(model, options), tokenizer


def _version(uri: str, options: StudentOptions) -> tuple[Any, Any, list[Problem], str]:
    """A published version: its model, what it was trained on, and the chat format that it has learnt."""
    folder = localise(f"{uri}/model")
    model, tokenizer = load_pretrained(str(folder), dtype="auto")
    info = read_info(folder)
    seen: dict[str, Demonstration] = {}
    for ancestor in (uri, *_ancestors(info)):
        with fetched(f"{ancestor}/train.jsonl") as path:
            seen.update((row.problem_id, row) for row in read_records(path, Demonstration))
    rows = [
        Problem(
            id=row.problem_id,
            source=row.source,
            split="train",
            question=row.question,
            answer=row.answer,
            licence=row.licence,
            maker=row.maker,
        )
        for row in seen.values()
    ]
    return _in_dtype(model, options), tokenizer, rows, info.chat_format


def _ancestors(info: ModelInfo) -> Iterator[str]:
    """Versions that a version was trained from, newest first, as far as the model store still has them."""
    known: set[str] = set()
    while "/versions/" in info.base_model and info.base_model not in known:
        known.add(info.base_model)
        try:
            with fetched(f"{info.base_model}/model/{INFO}") as path:
                older = read_info(path.parent)
        except StoreError as error:
            print(f"what {info.base_model} was trained on is not checked against the benchmarks: {error}", flush=True)
            return
        yield info.base_model
        info = older


def _in_dtype(model: Any, options: StudentOptions) -> Any:
    if options.dtype == "auto":
        return model
    import torch

    return model.to(getattr(torch, options.dtype))


def _tiny(benchmarks: str, options: StudentOptions, stage: StageRun, seed: int) -> tuple[Any, Any, list[Problem]]:
    from components.student.models import tiny

    options.check_tiny(options.SECTION)
    avoid = {normalise_question(row.question) for row in read_records(benchmarks, Problem)}
    stage.rows_in = len(avoid)
    try:
        model, tokenizer, made, curve = tiny.build(
            options.tiny, options.chat_format, seed, avoid, lambda done, total: stage.progress(done, total, "steps")
        )
    except ParameterError as error:
        # The generator of problems knows its own arguments.
        own = {"count": "tiny.rows", "max_number": "tiny.max_number"}.get(error.name)
        if own is None:
            raise
        raise ParameterError(options.full_name(own), error.value, error.allowed) from error
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
