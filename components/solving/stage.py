"""Solving: worked solutions for problems."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from components.core.answers import extract_answer
from components.core.records import Demonstration, Problem, read_records, write_records
from components.core.stage import StageRun
from components.solving.options import SolvingOptions
from components.solving.selection import GOLD, Solution, demonstration, select
from components.teacher.client import ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt
from components.teacher.solve import PROMPT, solve_problem


def run(
    problems: Path,
    teacher: TeacherOptions,
    options: SolvingOptions,
    responses: str,
    demonstrations: Path,
    stage: StageRun,
) -> None:
    """Solve the problems of one shard of the synthesis.

    Args:
        problems: Problem rows.
        teacher: The endpoint.
        options: The stage's options.
        responses: Address of the response store.
        demonstrations: Where the Demonstration rows go, in the order of the problems.
        stage: Counters and progress. ``counts`` get ``teacher_checked``, ``teacher_wrong`` and ``teacher_error_rate``: how often the
            teacher missed a gold answer.

    Raises:
        EmptyOutputError: There were problems but no solution is left.
        TeacherError: The teacher failed; a rerun goes on from what is stored.
    """
    mine = list(_distinct(problems, stage))
    stage.prompts = {PROMPT: load_prompt(PROMPT).version}
    stage.lineage = {"teacher": teacher.model}
    gold = {row.id for row in mine if options.use_gold_solutions and row.solution and _gold_answer(row)}
    asked = [row for row in mine if row.id not in gold]
    replies = asyncio.run(_solve(asked, teacher, options, responses, stage)) if asked else []

    stage.rows_kept = write_records(demonstrations, _demonstrations(mine, gold, replies, teacher, options, stage))
    if asked and stage.counts["teacher_checked"]:
        stage.counts["teacher_error_rate"] = stage.counts["teacher_wrong"] / stage.counts["teacher_checked"]
    if mine:
        stage.require_rows("solutions")


def _distinct(file: Path, stage: StageRun) -> Iterator[Problem]:
    seen: set[str] = set()
    for row in read_records(file, Problem):
        stage.rows_in += 1
        if row.id in seen:
            stage.drop("duplicate")
            continue
        seen.add(row.id)
        yield row


async def _solve(
    problems: list[Problem], teacher: TeacherOptions, options: SolvingOptions, responses: str, stage: StageRun
) -> list[Solution | None]:
    """One entry for each problem and sample, in order; None where the teacher failed."""
    jobs = [(row, sample) for row in problems for sample in range(options.n)]

    async with Teacher(teacher, responses, stage) as client:

        async def solve(job: tuple[Problem, int]) -> Solution | None:
            row, sample = job
            try:
                reply = await solve_problem(client, row.question, sample, options.temperature)
            except ReplyError:
                return None
            return Solution(sample, reply.text, reply.finish_reason != "length")

        stage.progress(0, len(jobs), "solutions", force=True)
        try:
            return await map_concurrently(solve, jobs, teacher.concurrency, lambda done, total: stage.progress(done, total, "solutions"))
        finally:
            stage.usage = client.usage


def _demonstrations(
    problems: list[Problem],
    gold: set[str],
    replies: list[Solution | None],
    teacher: TeacherOptions,
    options: SolvingOptions,
    stage: StageRun,
) -> Iterator[Demonstration]:
    version = load_prompt(PROMPT).version
    stage.counts |= {"gold_solutions": len(gold), "teacher_checked": 0, "teacher_wrong": 0}
    position = 0
    for row in problems:
        if row.id in gold:
            found = [demonstration(row, row.solution or "", _gold_answer(row) or "", GOLD)]
        else:
            solutions = replies[position : position + options.n]
            position += options.n
            selection = select(row, [item for item in solutions if item is not None], options)
            for reason in [*selection.dropped, *("teacher_failed" for item in solutions if item is None)]:
                stage.drop(reason)
            stage.counts["teacher_checked"] += selection.checked
            stage.counts["teacher_wrong"] += selection.wrong
            found = [demonstration(row, item.text, answer, teacher.model, version, item.sample) for item, answer in selection.kept]
        for item in found:
            stage.example("demonstration", item)
            yield item


def _gold_answer(problem: Problem) -> str | None:
    return problem.answer if problem.answer is not None else extract_answer(problem.solution or "")
