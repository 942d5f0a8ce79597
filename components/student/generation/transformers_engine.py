"""The transformers engine."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.errors import ModelError
from components.student.generation.decoding import decode
from components.student.generation.interface import Completion, Progress
from components.student.models.hardware import is_out_of_memory
from components.student.models.load import Student
from components.student.options import GenerationOptions


class TransformersEngine:
    """Left-padded batches sorted by length; all samples of a prompt share its prefill; optional worker processes."""

    def __init__(self, student: Student, options: GenerationOptions) -> None:
        self.student = student
        self.info = student.info
        self.batch_size = options.batch_size
        self.workers = options.workers if student.model.device.type == "cpu" else 1
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        student.model.eval()

    def generate(
        self,
        questions: Sequence[str],
        *,
        seeds: Sequence[Sequence[int]],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """See ``Engine.generate``."""
        if not questions:
            return []
        prompts = self.student.chat.encode_prompts(questions)
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        per_batch = max(1, self.batch_size // len(seeds[0]))
        if self.workers > 1:
            per_batch = min(per_batch, -(-len(prompts) // self.workers))
        batches = [order[start : start + per_batch] for start in range(0, len(order), per_batch)]
        jobs = [_Job([prompts[i] for i in batch], [list(seeds[i]) for i in batch], temperature, top_p, max_new_tokens) for batch in batches]
        results: list[list[Completion]] = [[] for _ in prompts]
        finished = 0
        for batch, completions in zip(batches, self._run(jobs), strict=True):
            for index, row in zip(batch, completions, strict=True):
                results[index] = row
            finished += len(batch)
            if progress:
                progress(finished)
        return results

    def close(self) -> None:
        """Stop the worker processes."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _run(self, jobs: list[_Job]) -> Any:
        if self.workers == 1 or len(jobs) == 1:
            return (_generate(self.student, job) for job in jobs)
        if self._pool is None:
            global _shared
            _shared = self.student
            # Forked workers see the loaded model without copying or loading it again.
            context = multiprocessing.get_context("fork")
            self._pool = concurrent.futures.ProcessPoolExecutor(self.workers, mp_context=context)
        return self._collect(self._pool.map(_generate_shared, jobs))

    @staticmethod
    def _collect(results: Any) -> Any:
        try:
            yield from results
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ModelError(
                "a generation worker died, most likely because the machine ran out of memory", "lower workers or batch_size"
            ) from error


@dataclass(frozen=True)
class _Job:
    prompts: list[list[int]]
    seeds: list[list[int]]
    temperature: float
    top_p: float
    max_new_tokens: int


_shared: Student | None = None


def _generate_shared(job: _Job) -> list[list[Completion]]:
    if _shared is None:
        raise RuntimeError("a generation worker was started without its model")
    return _generate(_shared, job)


def _generate(student: Student, job: _Job) -> list[list[Completion]]:
    """Decode one batch, halving it as often as memory demands."""
    try:
        return _decode(student, job)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(job.prompts) == 1 and len(job.seeds[0]) == 1:
            raise ModelError(
                f"no memory to generate a single response of up to {job.max_new_tokens} tokens",
                "lower max_new_tokens, use dtype bfloat16, or take a larger GPU",
            ) from error
    if student.model.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    if len(job.prompts) > 1:
        half = len(job.prompts) // 2
        return _generate(student, _part(job, slice(None, half))) + _generate(student, _part(job, slice(half, None)))
    half = len(job.seeds[0]) // 2
    first = _generate(student, _samples(job, slice(None, half)))
    second = _generate(student, _samples(job, slice(half, None)))
    return [first[0] + second[0]]


def _part(job: _Job, rows: slice) -> _Job:
    return _Job(job.prompts[rows], job.seeds[rows], job.temperature, job.top_p, job.max_new_tokens)


def _samples(job: _Job, columns: slice) -> _Job:
    return _Job(job.prompts, [row[columns] for row in job.seeds], job.temperature, job.top_p, job.max_new_tokens)


def _decode(student: Student, job: _Job) -> list[list[Completion]]:
    tokenizer, stop = student.tokenizer, student.chat.stop
    ends = student.chat.end_ids()

    def text_of(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    def stopped(ids: list[int]) -> bool:
        text = text_of(ids)
        return any(mark in text for mark in stop)

    generated = decode(
        student.model,
        job.prompts,
        seeds=job.seeds,
        temperature=job.temperature,
        top_p=job.top_p,
        max_new_tokens=job.max_new_tokens,
        end_ids=ends,
        pad_id=tokenizer.pad_token_id,
        stopped=stopped if stop else None,
    )
    return [[_completion(ids, ends, text_of, stop) for ids in row] for row in generated]


def _completion(ids: list[int], ends: list[int], text_of: Callable[[list[int]], str], stop: Sequence[str]) -> Completion:
    finish = "length"
    if ids and ids[-1] in ends:
        ids, finish = ids[:-1], "stop"
    text = text_of(ids)
    cuts = [place for mark in stop if (place := text.find(mark)) >= 0]
    if cuts:
        text, finish = text[: min(cuts)], "stop"
    return Completion(text.strip(), len(ids), finish)
