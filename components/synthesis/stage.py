"""Synthesis: new problems from seeds, written by agents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from components.core.errors import BudgetError, EmptyOutputError
from components.core.records import Problem, in_shard, read_records, row_id, write_records
from components.core.stage import StageRun
from components.synthesis.arms import ARMS
from components.synthesis.arms.arm import Arm, Desk, Written
from components.synthesis.filters import SeenProblems
from components.synthesis.options import SynthesisOptions
from components.teacher.agents import CHECKER, PROMPTS
from components.teacher.client import Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt

CHECKS = (PROMPTS[CHECKER],)
"""Prompts that every arm may use."""
MIN_CONVERSATIONS = 10
"""Conversations without a single new problem that end the stage: a fault of prompt, teacher or filters, not chance (our choice)."""


def run(
    seeds: Path, teacher: TeacherOptions, options: SynthesisOptions, responses: str, seed: int, shard: str, problems: Path, stage: StageRun
) -> None:
    """Let the agents write new problems from one shard of the seeds.

    The output does not depend on concurrency or on the order in which replies come in.

    Args:
        seeds: Problem rows, all shards.
        teacher: The endpoint.
        options: The stage's options.
        responses: Address of the response store.
        seed: The run's seed: chooses which seeds are rewritten when not all are.
        shard: ``"index/count"``.
        problems: Where the shard's seeds and the new problems go: seeds first, then arm by arm.
        stage: Counters and progress.

    Raises:
        EmptyOutputError: Many conversations and not one new problem.
        BudgetError: The budget is spent; what was paid for is in the output all the same.
        TeacherError: The teacher failed; a rerun goes on from what is stored.
    """
    everything = list(read_records(seeds, Problem))
    mine = [row for row in everything if in_shard(row.id, shard)]
    work: list[tuple[Arm, Problem]] = []
    for arm in [arm for arm in ARMS if getattr(options, arm.name)]:
        picked = chosen(everything, mine, getattr(options, f"{arm.name}_seeds"), f"{arm.salt} {seed}")
        taken = [row for row in picked if arm.takes(row)]
        work += [(arm, row) for row in taken]
        if arm.unusable:
            stage.counts[arm.unusable] = len(picked) - len(taken)
    stage.rows_in = len(mine)
    stage.prompts = {name: load_prompt(name).version for arm in ARMS for name in (*arm.prompts, *CHECKS)}
    stage.lineage = {"teacher": teacher.model}

    # Without conversations there may be no teacher to open a client for.
    answers, stopped = asyncio.run(_converse(work, teacher, options, responses, stage)) if work else ([], None)
    new = without_duplicates([problem for written in answers for problem in written.problems], everything, stage)
    for written in answers:
        for reason, rejected in zip(written.dropped, written.rejected, strict=True):
            stage.drop(reason, row=rejected)
        for suggestion in written.suggestions:
            stage.example("suggestion", suggestion)
    if stopped is None and len(answers) >= MIN_CONVERSATIONS and not new:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(stage.dropped.items()))
        raise EmptyOutputError(
            f"{stage.task}: {len(answers)} conversations brought no new problem ({reasons})",
            "look at the reasons above: the teacher may be too weak for the prompts, or the filters too strict",
        )

    stage.rows_kept = write_records(problems, [*mine, *new])
    stage.counts |= {"seeds": len(mine), "new_problems": len(new), "conversations": len(answers)}
    for problem in new:
        name = f"{problem.method}_round_{problem.round}" if problem.round else problem.method
        stage.counts[name] = stage.counts.get(name, 0) + 1
    for row in mine:
        stage.example("seed", row, limit=3)
    for arm in ARMS:
        for problem in [row for row in new if row.method == arm.name][:4]:
            stage.example("problem", problem, limit=8)
    if stopped is not None:
        raise stopped


async def _converse(
    work: Sequence[tuple[Arm, Problem]], teacher: TeacherOptions, options: SynthesisOptions, responses: str, stage: StageRun
) -> tuple[list[Written], BudgetError | None]:
    """What each conversation brought, as far as the budget went; the error when it did not last."""
    async with Teacher(teacher, responses, stage) as client:
        desk = Desk(client, options)
        jobs = [(arm, row, Written()) for arm, row in work]
        stopped = None
        stage.progress(0, len(jobs), "conversations", force=True)
        try:
            await map_concurrently(
                lambda job: job[0].write(desk, *job[1:]),
                jobs,
                client.workers,
                lambda done, total: stage.progress(done, total, "conversations"),
                "conversations",
            )
        except BudgetError as error:
            stopped = error
        finally:
            stage.usage = client.usage
    return [written for _, _, written in jobs], stopped


def chosen(seeds: list[Problem], mine: list[Problem], count: int, salt: str) -> list[Problem]:
    """Those of this shard's seeds that are among the ``count`` chosen of all, whatever the shards and the order of the rows.

    Args:
        seeds: All seeds.
        mine: Those of this shard.
        count: How many; 0 for all. A smaller count chooses a part of what a larger one does.
        salt: Makes choices for different purposes differ.
    """
    ranked = sorted({row.id for row in seeds}, key=lambda identifier: row_id(salt, identifier))
    wanted = set(ranked[:count] if count else ranked)
    return [row for row in mine if row.id in wanted]


def without_duplicates(problems: list[Problem], seeds: list[Problem], stage: StageRun) -> list[Problem]:
    """The problems that are neither seeds nor repeat one before them; the others are dropped from the stage."""
    seen = SeenProblems(row.question for row in seeds)
    kept = []
    for problem in problems:
        if seen.add(problem.question):
            kept.append(problem)
        else:
            stage.drop("duplicate", row=problem)
    return kept
