"""``tutorloop run --dry-run``: what a run will ask of the teacher, from a small real sample and the counts of the profile."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from components.core.records import Problem, read_records
from components.core.stage import StageRun
from components.judging.options import JudgingOptions
from components.seeds.options import SeedsOptions
from components.seeds.stage import collect_seeds
from components.solving.options import SolvingOptions
from components.solving.stage import has_gold_solution
from components.synthesis.options import SynthesisOptions
from components.teacher.options import LIMITS, OFFLINE, TeacherOptions
from components.teacher.preflight import preflight
from components.teacher.sharing.spending import Spending
from pipelines.forecast.ranges import RESAMPLES, Figure, Forecast, LimitForecast, Progress, StageForecast, figure, total
from pipelines.methods.orca_math.estimate import ESTIMATOR, OrcaMathAssumptions, estimate
from pipelines.methods.orca_math.sample import Kind, Plan, Sample, Unit, look_up, requests_of, take
from pipelines.methods.orca_math.shape import OrcaMathShape
from pipelines.runs.offline_teacher import offline_teacher

if TYPE_CHECKING:
    from pipelines.parameters.profile import RunOptions

LITTLE = 1e-6
"""In the place of nothing, where an assumption must be above zero."""
TITLES: dict[str, str] = {
    "ask": "Ask-Me-Anything conversations",
    "rewrite": "Suggester and Editor conversations",
    "seed": "seeds solved",
    "verdict": "verdicts",
}

JUDGED = [
    "those of the judge aside: it was shown the teacher's own solutions, since there is no student yet; a student's responses may be longer"
]


def dry_run(run: RunOptions, responses: str, count: int, progress: Progress | None = None) -> Forecast:
    """Take a sample and say what the run takes.

    Args:
        run: Checked options.
        responses: Address of the response store that the run will use.
        count: Seeds of each kind in the sample.
        progress: Called with the numbers of units that are done and wanted.

    Raises:
        BudgetError: The limits do not allow a sample.
        TeacherError: The teacher failed, or refuses requests of the form that the options give them.
        InputError: The seeds cannot be read.
    """
    os.environ["TUTORLOOP_RUN"] = f"dry-run-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seeds.jsonl"
        collect_seeds(path, run.section(SeedsOptions, "seeds"), run.seed, StageRun("seeds"))
        plan = Plan(
            teacher=run.section(TeacherOptions, "teacher"),
            judge=run.section(TeacherOptions, "judge_teacher"),
            synthesis=run.section(SynthesisOptions, "synthesis"),
            solving=run.section(SolvingOptions, "solving"),
            judging=run.section(JudgingOptions, "judging"),
            responses=responses,
            seed=run.seed,
            seeds=list(read_records(path, Problem)),
        )
        # The sample opens a client for both, even where the run would ask neither.
        offline = OFFLINE in (plan.teacher.base_url, plan.judge.base_url)
        with offline_teacher(run.profile.offline_teacher if offline else None, run.profile.answer_key, run.seed, Path(folder)):
            endpoints = {"teacher": plan.teacher, "judge_teacher": plan.judge}
            asked = [endpoints[name] for name in run.method.asked(run.sections)]
            for index, section in enumerate(asked):
                if section not in asked[:index]:
                    asyncio.run(preflight(section))
            before = look_up(plan)
            return forecast(run, plan, take(plan, count, progress), before)


def forecast(run: RunOptions, plan: Plan, sample: Sample, before: Sequence[Unit]) -> Forecast:
    """Scale a sample to the run.

    Args:
        run: Checked options.
        plan: What the run does with the teacher.
        sample: What was taken.
        before: What the response store had of some units before that.
    """
    assumed = measured(plan, sample.units)
    middle = estimate(run, assumed)
    draws = random.Random(0)
    drawn = [estimate(run, measured(plan, _redrawn(sample.units, draws))) for _ in range(RESAMPLES)]
    found = (middle, *drawn)
    stages = {}
    for name in middle.teacher:
        asked = [each.teacher[name] for each in found]
        stored = stored_ratio(sample.units, before, name)
        requests, tokens = asked[0].requests * (1 - stored), (asked[0].prompt_tokens + asked[0].reply_tokens) * (1 - stored)
        seconds, bound = _time(run, plan, sample, name, requests, tokens)
        stages[name] = StageForecast(
            requests=figure([each.requests for each in asked]),
            prompt_tokens=figure([each.prompt_tokens for each in asked]),
            reply_tokens=figure([each.reply_tokens for each in asked]),
            usd=figure([each.usd for each in asked]),
            seconds=seconds,
            bound=bound,
            stored_ratio=stored,
        )
    kinds = [unit.kind for unit in sample.units]
    solved = sum(unit.solved for unit in sample.units)
    return Forecast(
        seeds=len(plan.seeds),
        problems=figure([each.problems for each in found]),
        units={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        kept_ratio={
            "rewritten problems": assumed.rewritten_kept,
            "solutions": sum(len(unit.solutions) for unit in sample.units) / max(solved, 1),
        },
        sample=sample.usage,
        stopped=sample.stopped,
        titles=TITLES,
        remarks=JUDGED if requests_of(sample.units, "judging") else [],
        stages=stages,
        limits=list(_limits(plan, stages, sample.today)),
    )


def measured(plan: Plan, units: Sequence[Unit]) -> OrcaMathAssumptions:
    """What a sample says in the place of the assumptions; what it says nothing about stays assumed."""
    of: dict[Kind, list[Unit]] = {kind: [unit for unit in units if unit.kind == kind] for kind in get_args(Kind)}
    # What the sample holds as many of as of the others, the run may hold few of.
    weights: dict[Kind, float] = {kind: len(plan.rows(kind, 0)) / len(found) for kind, found in of.items() if found and kind != "verdict"}
    weights["verdict"] = 1.0
    values: dict[str, object] = {
        "seeds": len(plan.seeds),
        "with_answer": sum(row.answer is not None for row in plan.seeds) / len(plan.seeds),
        "with_solution": sum(has_gold_solution(row) for row in plan.seeds) / len(plan.seeds),
    }
    if of["ask"]:
        values["turned_round_per_seed"] = max(sum(unit.kept for unit in of["ask"]) / len(of["ask"]), LITTLE)
    if rounds := sum(unit.rounds for unit in of["rewrite"]):
        values["rounds_taken"] = rounds / (len(of["rewrite"]) * plan.synthesis.rounds)
        values["rewritten_kept"] = sum(unit.kept for unit in of["rewrite"]) / rounds
    for name, stage in (("writing", "synthesis"), ("solving", "solving"), ("judging", "judging")):
        requests = [(weights[unit.kind], request) for unit in units for request in requests_of([unit], stage)]
        if requests:
            weight = sum(weight for weight, _ in requests)
            values[name] = {
                "prompt": max(sum(weight * request.prompt for weight, request in requests) / weight, LITTLE),
                "reply": max(sum(weight * request.reply for weight, request in requests) / weight, LITTLE),
            }
    return ESTIMATOR.assume(values)


def stored_ratio(units: Sequence[Unit], before: Sequence[Unit], stage: str) -> float:
    """Share of a stage's requests that the store had already: of the units that were looked for, where one that lacks something is taken
    to ask for as much as those of the sample do."""
    had, wanted = 0.0, 0.0
    for kind in ("ask", "rewrite", "seed"):
        sampled, looked = [unit for unit in units if unit.kind == kind], [unit for unit in before if unit.kind == kind]
        usual = len(requests_of(sampled, stage)) / max(len(sampled), 1)
        for unit in looked:
            found = len(requests_of([unit], stage))
            had += found
            wanted += found if unit.whole else max(found, usual)
    return had / wanted if wanted else 0.0


def _redrawn(units: Sequence[Unit], draws: random.Random) -> list[Unit]:
    """As many units of each kind, drawn with replacement."""
    of: dict[str, list[Unit]] = {}
    for unit in units:
        of.setdefault(unit.kind, []).append(unit)
    return [unit for found in of.values() for unit in draws.choices(found, k=len(found))]


def _time(run: RunOptions, plan: Plan, sample: Sample, stage: str, requests: float, tokens: float) -> tuple[float | None, str]:
    """Seconds for so many requests, and what they depend on: the slowest of all that holds requests up."""
    took = [request.seconds for request in requests_of(sample.units, stage) if not request.stored]
    if not requests:
        return 0.0, ""
    if not took:
        return None, ""
    shape = run.shape_of(OrcaMathShape)
    teacher, processes = (plan.judge, shape.sampling_shards) if stage == "judging" else (plan.teacher, shape.data_shards)
    at_once = min(teacher.concurrency * processes, requests)
    bounds = {
        f"{sum(took) / len(took):.2f} s a request, {at_once:.0f} at once": requests * sum(took) / len(took) / at_once,
        "this machine's processors": requests * sample.cpu_s / min(processes, os.cpu_count() or 1),
    }
    if teacher.requests_per_minute:
        bounds["requests_per_minute"] = requests / teacher.requests_per_minute * 60
    if teacher.tokens_per_minute:
        bounds["tokens_per_minute"] = tokens / teacher.tokens_per_minute * 60
    bound = max(bounds, key=lambda name: bounds[name])
    return bounds[bound], bound


def _limits(plan: Plan, stages: Mapping[str, StageForecast], today: Spending) -> Iterable[LimitForecast]:
    """The limits hold for a run as a whole, whichever section sets them; those of a day for all runs."""
    parts = stages.values()
    usd = total(Figure(*(value * (1 - stage.stored_ratio) for value in stage.usd)) for stage in parts)
    tokens = total(
        Figure(*(value * (1 - stage.stored_ratio) for value in figure))
        for stage in parts
        for figure in (stage.prompt_tokens, stage.reply_tokens)
    )
    for section, options in (("teacher", plan.teacher), ("judge_teacher", plan.judge)):
        if section == "judge_teacher" and options == plan.teacher:
            continue
        for name in LIMITS:
            if maximum := float(getattr(options, name)):
                needed = usd if "usd" in name else tokens
                left = maximum - ((today.usd if "usd" in name else today.tokens) if name.endswith("_per_day") else 0.0)
                verdict = "exceeded" if needed.value > left else "may be exceeded" if needed.high > left else "within"
                yield LimitForecast(f"{section}.{name}", maximum, needed, verdict)
