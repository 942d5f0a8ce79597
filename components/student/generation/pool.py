"""Pools of responses: the one way in which the student's texts are generated, for practice and for benchmarks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.core.records import Sample, row_id
from components.core.stage import StageRun
from components.student.generation.chunks import run_in_chunks
from components.student.models.load import read_info
from components.student.options import GenerationOptions

if TYPE_CHECKING:
    from components.student.generation.interface import Engine

FREE = ("batch_size", "workers", "threads", "device", "chunk_size")
"""Options that do not change what is generated: a task restarted with others continues."""


@dataclass(frozen=True)
class Prompt:
    """A problem and the responses that are wanted to it.

    Attributes:
        problem_id: Of the problem.
        question: Plain text.
        seeds: One for each sampled response.
        greedy: Whether a greedy response is wanted as well.
        source: Of the problem, where it matters to what reads the pool.
        split: Likewise.
    """

    problem_id: str
    question: str
    seeds: tuple[int, ...] = ()
    greedy: bool = False
    source: str = ""
    split: str = ""


@dataclass(frozen=True)
class Pool:
    """What was generated.

    Attributes:
        rows: In the order of the prompts; of each the greedy response first, then the samples.
        resumed: Prompts that an earlier, killed task had finished.
        load_seconds: Time that loading the model took; 0 when it was not loaded.
        seconds: Time of all but that.
        generated: Whether anything was generated now.
    """

    rows: list[Sample]
    resumed: int
    load_seconds: float
    seconds: float
    generated: bool


def generate_pool(
    model: str,
    prompts: Sequence[Prompt],
    options: GenerationOptions,
    stage: StageRun,
    *,
    temperature: float,
    top_p: float,
    checkpoints: str,
    key: str,
) -> Pool:
    """Generate the responses to all prompts; the caller discards the chunks when its output is written.

    Args:
        model: Folder of the model.
        prompts: Alike ones beside each other, long ones first: memory runs out at once or not at all, and the time left is never
            underestimated. All that want samples want the same number.
        options: Engine, batches, chunks, longest response.
        stage: Gets speed and progress.
        temperature: Of the samples.
        top_p: Of the samples.
        checkpoints: Store URI for finished chunks.
        key: Identifies the task: everything that the responses depend on must be hashed into it.

    Raises:
        ModelError: The model does not load, or memory runs out.
    """
    name = read_info(model).name
    engine: Engine | None = None
    loaded = 0.0

    def work(chunk: Sequence[Prompt], before: int) -> list[Sample]:
        nonlocal engine, loaded
        if engine is None:
            from components.student.generation.engines import open_engine

            began = time.monotonic()
            engine = open_engine(model, options)
            loaded = time.monotonic() - began
        began = time.monotonic()
        rows: dict[int, list[Sample]] = {place: [] for place in range(len(chunk))}
        greedy = [place for place, prompt in enumerate(chunk) if prompt.greedy]
        sampled = [place for place, prompt in enumerate(chunk) if prompt.seeds]
        for places, heat, mass in ((greedy, 0.0, 1.0), (sampled, temperature, top_p)):
            # Work that is followed by more on the same prompts finishes none.
            finishing = places is sampled or not sampled
            seeds = [list(chunk[place].seeds) if places is sampled else [0] for place in places]
            responses = engine.generate(
                [chunk[place].question for place in places],
                seeds=seeds,
                temperature=heat,
                top_p=mass,
                max_new_tokens=options.max_new_tokens,
                progress=(lambda done: stage.progress(before + done, len(prompts), "problems")) if finishing else None,
            )
            for place, own, answers in zip(places, seeds, responses, strict=True):
                rows[place] += [
                    Sample(
                        id=row_id(chunk[place].problem_id, name, index, seed),
                        problem_id=chunk[place].problem_id,
                        question=chunk[place].question,
                        model=name,
                        sample=index,
                        seed=seed,
                        temperature=heat,
                        top_p=mass,
                        text=response.text,
                        tokens=response.tokens,
                        finish=response.finish,
                        source=chunk[place].source,
                        split=chunk[place].split,
                    )
                    for index, (seed, response) in enumerate(zip(own, answers, strict=True))
                ]
        made = [row for place in range(len(chunk)) for row in rows[place]]
        stage.latest["tokens_per_second"] = sum(row.tokens for row in made) / max(time.monotonic() - began, 1e-9)
        stage.progress(before + len(chunk), len(prompts), "problems")
        return made

    copies = max((len(prompt.seeds) for prompt in prompts), default=1)
    batch = max(1, options.batch_size // max(1, copies)) * options.workers
    started = time.monotonic()
    try:
        rows, resumed = run_in_chunks(checkpoints, key, prompts, options.chunk_size, Sample, work, batch=batch)
    finally:
        if engine is not None:
            engine.close()
    return Pool(rows, resumed, loaded, max(time.monotonic() - started - loaded, 1e-9), engine is not None)
