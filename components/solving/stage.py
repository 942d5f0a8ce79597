"""Solving: worked solutions for problems."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from components.core.errors import BudgetError
from components.core.records import Demonstration, Problem, read_records, write_records
from components.core.stage import StageRun
from components.grading.answers import extract_answer
from components.solving.options import SolvingOptions
from components.solving.selection import GOLD, Solution, demonstration, select, votes
from components.teacher.client import ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt
from components.teacher.solve import PROMPT, solve_problem

MIN_PROBLEMS = 10
"""Problems without a single solution that end the stage: a fault of prompt, teacher or options, not chance (our choice)."""


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
        EmptyOutputError: Many problems and not one solution. Of a few, none may be left by chance: the other shards have theirs, and the
            contamination gate ends a run to which no shard brought any.
        BudgetError: The budget is spent; what was paid for is in the output all the same.
        TeacherError: The teacher failed; a rerun goes on from what is stored.
    """
    mine = list(_distinct(problems, stage))
    stage.prompts = {PROMPT: load_prompt(PROMPT).version}
    stage.lineage = {"teacher": teacher.model}
    gold = {row.id for row in mine if options.use_gold_solutions and has_gold_solution(row)}
    asked = [row for row in mine if row.id not in gold]
    replies, stopped = asyncio.run(_solve(asked, teacher, options, responses, stage)) if asked else ([], None)

    stage.rows_kept = write_records(demonstrations, _demonstrations(mine, gold, replies, teacher, options, stage))
    if asked and stage.counts["teacher_checked"]:
        stage.counts["teacher_error_rate"] = stage.counts["teacher_wrong"] / stage.counts["teacher_checked"]
    if stopped is not None:
        raise stopped
    if len(mine) >= MIN_PROBLEMS:
        stage.require_rows("solutions")


def _distinct(file: Path, stage: StageRun) -> Iterator[Problem]:
    seen: set[str] = set()
    for row in read_records(file, Problem):
        stage.rows_in += 1
        if row.id in seen:
            stage.drop("duplicate", row=row)
            continue
        seen.add(row.id)
        yield row


async def _solve(
    problems: list[Problem], teacher: TeacherOptions, options: SolvingOptions, responses: str, stage: StageRun
) -> tuple[list[list[Solution] | None], BudgetError | None]:
    """One entry for each problem and sample, in order: empty where the teacher failed, None where the budget did not reach."""
    jobs = [(row, sample) for row in problems for sample in range(options.n)]

    async with Teacher(teacher, responses, stage) as client:

        async def solve(job: tuple[Problem, int]) -> list[Solution]:
            row, sample = job
            try:
                reply = await solve_problem(client, row.question, sample, options.temperature)
            except ReplyError:
                return []
            return [Solution(sample, reply.text, reply.finish_reason != "length")]

        stage.progress(0, len(jobs), "solutions", force=True)
        try:
            advance = partial(stage.progress, unit="solutions")
            return await map_concurrently(solve, jobs, client.workers, advance, "solutions"), None
        except BudgetError as error:
            return error.results, error
        finally:
            stage.usage = client.usage


def _demonstrations(
    problems: list[Problem],
    gold: set[str],
    replies: list[list[Solution] | None],
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
            given = [item for item in replies[position : position + options.n] if item is not None]
            position += options.n
            if len(given) < options.n and (not given or votes(row, options)):
                # A vote among some of the samples may end otherwise than that among all.
                stage.counts["problems_left"] = stage.counts.get("problems_left", 0) + 1
                continue
            selection = select(row, [solution for item in given for solution in item], options)
            for reason, rejected in zip(selection.dropped, selection.rejected, strict=True):
                stage.drop(reason, row=_told(row, rejected))
            for solutions in given:
                if not solutions:
                    stage.drop("teacher_failed", row=_told(row))
            stage.counts["teacher_checked"] += selection.checked
            stage.counts["teacher_wrong"] += selection.wrong
            found = [demonstration(row, item.text, answer, teacher.model, version, item.sample) for item, answer in selection.kept]
        for item in found:
            stage.example("demonstration", item)
            yield item


def _told(problem: Problem, solution: Solution | None = None) -> dict[str, Any]:
    """A solution with its problem, for people to read."""
    known = {"problem_id": problem.id, "question": problem.question, "answer": problem.answer}
    return known if solution is None else {**known, "sample": solution.sample, "solution": solution.text}


def has_gold_solution(problem: Problem) -> bool:
    """Whether the source has a worked solution that states its answer."""
    return bool(problem.solution and _gold_answer(problem))


def _gold_answer(problem: Problem) -> str | None:
    return problem.answer if problem.answer is not None else extract_answer(problem.solution or "")
