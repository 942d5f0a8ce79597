"""A small real part of a run's requests to the teacher, with what each brought, cost and took.

A unit is one seed with everything that follows from it: its conversation, and the solutions of the problems that came of it. The
requests are those of the stages' own functions, with the run's prompts, options and choice of seeds, so that the run finds every
reply in the response store. Responses of a student are not there before one is trained: the judge is shown the teacher's solutions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec

from components.core.errors import BudgetError
from components.core.records import Problem, Usage
from components.core.stage import StageRun
from components.judging.options import JudgingOptions
from components.judging.verdicts import Question, ask_judge
from components.solving.options import SolvingOptions
from components.solving.selection import Solution, select
from components.solving.stage import has_gold_solution
from components.synthesis.arms.arm import Desk, Written
from components.synthesis.arms.ask_me_anything import AskMeAnything
from components.synthesis.arms.suggester_editor import SuggesterEditor
from components.synthesis.filters import SeenProblems
from components.synthesis.options import SynthesisOptions
from components.synthesis.stage import chosen
from components.teacher.client import Reply, ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt
from components.teacher.sharing.spending import Spending
from components.teacher.solve import PROMPT as SOLVE
from components.teacher.solve import solve_problem
from pipelines.forecast.ranges import Progress

TASK = StageRun("sample")
"""Labels of the metrics."""
Kind = Literal["ask", "rewrite", "seed", "verdict"]
LOOKED_UP = 100
"""Units of each kind that are looked for in the response store."""


class Request(NamedTuple):
    """One request of a unit.

    Attributes:
        stage: That it is counted for: ``synthesis``, ``solving`` or ``judging``.
        prompt: Tokens sent.
        reply: Tokens received.
        seconds: From the request to the reply, with all waits.
        stored: It was answered by the response store.
    """

    stage: str
    prompt: int
    reply: int
    seconds: float
    stored: bool


@dataclass
class Unit:
    """What one seed brought.

    Attributes:
        kind: ``ask`` and ``rewrite`` for the two kinds of conversation, ``seed`` for the seed's own solutions, ``verdict`` for the judge.
        requests: In the order of the replies.
        rounds: Rounds of the Suggester and Editor.
        kept: New problems that are no seeds and no repetitions.
        solutions: Usable solutions, with their problem and answer.
        solved: Solutions asked for.
        whole: Nothing is missing.
    """

    kind: Kind
    requests: list[Request] = field(default_factory=list)
    rounds: int = 0
    kept: int = 0
    solutions: list[Question] = field(default_factory=list)
    solved: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Sample:
    """What was taken.

    Attributes:
        units: The whole ones.
        usage: What they cost.
        cpu_s: Seconds of this machine's processor for a request, the client's work.
        today: What all runs of the response store have spent on this day (UTC), without what this sample has paid in advance for the run.
        stopped: Why not all of it was taken; empty when it was.
    """

    units: list[Unit]
    usage: Usage
    cpu_s: float
    today: Spending
    stopped: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run does with the teacher.

    Attributes:
        teacher: Endpoint of synthesis and solving.
        judge: Endpoint of judging.
        synthesis, solving, judging: The stages' options.
        responses: Address of the response store.
        seed: Seed of the run.
        seeds: All of them.
    """

    teacher: TeacherOptions
    judge: TeacherOptions
    synthesis: SynthesisOptions
    solving: SolvingOptions
    judging: JudgingOptions
    responses: str
    seed: int
    seeds: list[Problem]

    def rows(self, kind: Kind, count: int) -> list[Problem]:
        """The first seeds of a kind that the run asks about; 0 for all of them."""
        limit, salt = {
            "ask": (self.synthesis.ask_me_anything_seeds, f"ask {self.seed}"),
            "rewrite": (self.synthesis.suggester_editor_seeds, f"rewrite {self.seed}"),
        }.get(kind, (0, f"sample {self.seed}"))
        if (kind == "ask" and not self.synthesis.ask_me_anything) or (kind == "rewrite" and not self.synthesis.suggester_editor):
            return []
        rows = chosen(self.seeds, self.seeds, min(count, limit) if count and limit else count or limit, salt)
        if kind == "ask":
            return [row for row in rows if row.answer is not None]
        return [row for row in rows if kind == "rewrite" or not (self.solving.use_gold_solutions and has_gold_solution(row))]

    def looked_up(self, kind: Kind) -> list[Problem]:
        """Seeds of a kind that stand for all of them: drawn apart from :meth:`rows`, whose first ones an earlier sample has stored."""
        rows = self.rows(kind, 0)
        return chosen(rows, rows, LOOKED_UP, f"look {kind} {self.seed}")


def take(plan: Plan, count: int, progress: Progress | None = None) -> Sample:
    """Ask about a few seeds of each kind.

    Args:
        plan: What the run does.
        count: Seeds of each kind, and verdicts.
        progress: Called with the numbers of units that are done and wanted.

    Raises:
        BudgetError: The budget does not even allow one unit.
        TeacherError: The teacher failed.
    """
    return asyncio.run(_take(plan, count, progress))


def look_up(plan: Plan) -> list[Unit]:
    """Look how much of the run the response store has already, without asking for anything.

    Returns:
        Units with what is stored of each; those that lack something are not ``whole``.
    """
    # A stored reply costs nothing, and any other costs more than one token.
    frugal = {"max_tokens": 1, "max_usd": 0.0, "max_usd_per_day": 0.0, "max_tokens_per_day": 0}
    stored = msgspec.structs.replace(plan.teacher, **frugal)
    return asyncio.run(_units(plan, stored, plan.looked_up, None))[0]


class _Watched(Teacher):
    """A client that notes what each request took."""

    async def chat(
        self, messages: Sequence[dict[str, str]], *, temperature: float, top_p: float = 1.0, max_tokens: int | None = None, sample: int = 0
    ) -> Reply:
        started = time.monotonic()
        reply = await super().chat(messages, temperature=temperature, top_p=top_p, max_tokens=max_tokens, sample=sample)
        unit = _unit.get()
        stage = "judging" if unit.kind == "verdict" else "solving" if messages[0]["content"] == load_prompt(SOLVE).text else "synthesis"
        unit.requests.append(Request(stage, reply.prompt_tokens, reply.completion_tokens, time.monotonic() - started, reply.cached))
        return reply


_unit: ContextVar[Unit] = ContextVar("unit")


async def _take(plan: Plan, count: int, progress: Progress | None) -> Sample:
    cpu = time.process_time()
    units, usage, stopped, today = await _units(plan, plan.teacher, lambda kind: plan.rows(kind, count), progress)
    # The run finds it in the store, and so needs less by as much. What the judge is asked here no run asks.
    early = Spending(usage.prompt_tokens, usage.completion_tokens, usage.usd)
    if plan.judging.judge != "rule_only" and stopped is None:
        questions = [question for unit in units for question in unit.solutions][:count]
        async with _Watched(plan.judge, plan.responses, TASK) as judge:
            rule = partial(_rule, judge, plan.judging)
            verdicts, stopped = await _run([(Unit("verdict"), partial(rule, question)) for question in questions], judge, progress)
            units += verdicts
            usage += judge.usage
            today = judge.spent_today
    if stopped is not None and not any(unit.whole for unit in units):
        raise stopped
    cpu = (time.process_time() - cpu) / max(sum(len(unit.requests) for unit in units), 1)
    others = Spending(*(max(spent - own, 0.0) for spent, own in zip(today, early, strict=True)))
    return Sample([unit for unit in units if unit.whole], usage, cpu, others, stopped.message if stopped else "")


async def _units(
    plan: Plan, teacher: TeacherOptions, rows: Callable[[Kind], list[Problem]], progress: Progress | None
) -> tuple[list[Unit], Usage, BudgetError | None, Spending]:
    async with _Watched(teacher, plan.responses, TASK) as client:
        seed = _Seed(client, plan, SeenProblems(row.question for row in plan.seeds))
        works: dict[Kind, Callable[[Problem, Unit], Awaitable[Unit]]] = {"ask": seed.converse, "rewrite": seed.converse, "seed": seed.solve}
        jobs = [(Unit(kind), partial(work, row)) for kind, work in works.items() for row in rows(kind)]
        units, stopped = await _run(jobs, client, progress)
        return units, client.usage, stopped, client.spent_today


async def _run(jobs: list[Any], client: Teacher, progress: Progress | None) -> tuple[list[Unit], BudgetError | None]:
    async def work(job: tuple[Unit, Callable[[Unit], Awaitable[Unit]]]) -> Unit:
        unit, function = job
        _unit.set(unit)
        await function(unit)
        unit.whole = True
        return unit

    stopped = None
    try:
        # Not ``client.workers``: those beyond what may be in flight wait for the others, and their time is not the endpoint's.
        await map_concurrently(work, jobs, client.options.concurrency, progress)
    except BudgetError as error:
        stopped = error
    return [unit for unit, _ in jobs], stopped


@dataclass(frozen=True)
class _Seed:
    """The units of a run's seeds."""

    client: Teacher
    plan: Plan
    seen: SeenProblems

    async def converse(self, row: Problem, unit: Unit) -> Unit:
        """The agents' conversation about a seed, and the solutions of what they wrote."""
        arm = AskMeAnything() if unit.kind == "ask" else SuggesterEditor()
        written = await arm.write(Desk(self.client, self.plan.synthesis), row, Written())
        if unit.kind == "rewrite":
            unit.rounds = len(written.suggestions) + bool(written.dropped)
        for problem in written.problems:
            unit.kept += self.seen.add(problem.question)
            await self.solve(problem, unit)
        return unit

    async def solve(self, row: Problem, unit: Unit) -> Unit:
        """All solutions of a problem that the run asks for."""
        options = self.plan.solving
        given = []
        for sample in range(options.n):
            unit.solved += 1
            try:
                reply = await solve_problem(self.client, row.question, sample, options.temperature)
            except ReplyError:
                continue
            given.append(Solution(sample, reply.text, reply.finish_reason != "length"))
        kept = select(row, given, options).kept
        unit.solutions += [Question(row.question, row.answer or answer, solution.text) for solution, answer in kept]
        return unit


async def _rule(judge: Teacher, options: JudgingOptions, question: Question, unit: Unit) -> Unit:
    await ask_judge(judge, question, options)
    return unit


def requests_of(units: Iterable[Unit], stage: str) -> list[Request]:
    """Their requests of one stage."""
    return [request for unit in units for request in unit.requests if request.stage == stage]
