"""What a run of a profile will ask of teacher, GPUs and stores, before any of it is spent.

Counts follow from the profile. What no profile can say (how long replies are, how fast the GPUs) is an assumption with a name: the
defaults are the figures of Orca-Math (arXiv 2402.14830) where it states them, else our choice, and a small run of the same teacher,
prompts and seeds measures those about the teacher (:func:`measured`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from components.core.options import Options, OptionsT, parse_options
from components.core.records import StageRecord, Usage
from components.judging.options import JudgingOptions
from components.preference_tuning.options import TuningOptions
from components.preferences.options import PreferenceOptions
from components.sampling.options import SamplingOptions
from components.sft.options import SFTOptions
from components.solving.options import SolvingOptions
from components.synthesis.options import SynthesisOptions
from components.teacher.options import TeacherOptions
from pipelines.parameters import SECTIONS, RunOptions

Number = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Tokens(Options, frozen=True, kw_only=True):
    """Tokens of one request, on the average."""

    prompt: Number
    reply: Number


class Assumptions(Options, frozen=True, kw_only=True):
    """What the profile does not say.

    Attributes:
        seeds: Seed problems; Orca-Math's number.
        turned_round_per_seed: Problems that Ask-Me-Anything makes of a seed; Orca-Math's 120,445 of 36,217.
        rewritten_kept: Share of the rewritten problems that is kept; Orca-Math's 37,157 of two rounds on 36,217.
        with_answer: Share of the seeds that have a short answer, without which Ask-Me-Anything has nothing to turn round.
        with_solution: Share of the seeds that have a worked solution, which ``solving.use_gold_solutions`` takes.
        rounds_taken: Share of the rounds of Suggester and Editor that are asked: a conversation ends with the first that brings nothing.
        undecided: Share of responses that the rules cannot decide, and the judge is asked about (our choice).
        writing: Requests of the agents; prompts as measured with ours, replies our choice.
        solving: Requests for solutions, likewise.
        judging: Requests to the judge, likewise.
        problem_tokens: Of a problem with its chat format, in the student's tokens (our choice).
        response_tokens: Of a solution or response (our choice; what two hundred words come to).
        benchmark_problems: Problems that every model is measured on; those of GSM8K's test split and a development split.
        parameters: Of the student; Mistral-7B.
        gpu_teraflops: Peak of one GPU in the precision that is trained in; an A100's bfloat16.
        utilisation: Share of that which training reaches (our choice).
        tokens_per_second: That one GPU generates over all sequences; a 7B model with vLLM (our choice).
        bytes_per_reply: Of a stored reply, its request and a margin (our choice).
    """

    seeds: Number = 36_217
    turned_round_per_seed: Number = 3.326
    rewritten_kept: Share = 0.513
    with_answer: Share = 1.0
    with_solution: Share = 1.0
    rounds_taken: Share = 1.0
    undecided: Share = 0.05
    writing: Tokens = Tokens(prompt=380, reply=220)
    solving: Tokens = Tokens(prompt=260, reply=250)
    judging: Tokens = Tokens(prompt=500, reply=60)
    problem_tokens: Number = 80
    response_tokens: Number = 250
    benchmark_problems: Number = 2_000
    parameters: Number = 7.24e9
    gpu_teraflops: Number = 312
    utilisation: Share = 0.35
    tokens_per_second: Number = 2_500
    bytes_per_reply: Number = 3_000


@dataclass(frozen=True)
class Asked:
    """Of one teacher stage, over the whole run."""

    requests: float
    prompt_tokens: float
    reply_tokens: float
    usd: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        problems: Training problems, before any filter drops some.
        teacher: By stage.
        gpu_hours: By stage; hours of one GPU.
        gigabytes: By store.
    """

    problems: float
    teacher: dict[str, Asked]
    gpu_hours: dict[str, float]
    gigabytes: dict[str, float]

    @property
    def usd(self) -> float:
        """Price of all requests."""
        return sum(asked.usd for asked in self.teacher.values())


def estimate(run: RunOptions, assumed: Assumptions) -> Estimate:
    """Count what a run of a profile asks for, with empty caches and nothing failing.

    Training takes 6 floating-point operations for each parameter and token, 8 with activations recomputed, and 2 for each token that
    is only scored (Kaplan et al., arXiv 2001.08361).

    Args:
        run: Checked options.
        assumed: What they do not say.
    """
    synthesis, solving = _options(run, SynthesisOptions, "synthesis"), _options(run, SolvingOptions, "solving")
    turned = _some(synthesis.ask_me_anything_seeds, assumed.seeds) * assumed.with_answer if synthesis.ask_me_anything else 0.0
    conversations = _some(synthesis.suggester_editor_seeds, assumed.seeds) if synthesis.suggester_editor else 0.0
    rewritten = conversations * synthesis.rounds * assumed.rounds_taken
    problems = assumed.seeds + turned * assumed.turned_round_per_seed + rewritten * assumed.rewritten_kept
    # Suggester and Editor, and the third agent where it is asked; the solutions that the length filter looks at are solving's.
    checks = int(synthesis.check_solvable)
    written = turned * (1 + assumed.turned_round_per_seed * checks) + rewritten * (2 + checks)
    unsolved = assumed.seeds * (1 - assumed.with_solution * solving.use_gold_solutions)
    asked = unsolved + problems - assumed.seeds
    solved = asked + rewritten * (1 - assumed.rewritten_kept) + asked * (solving.n - 1)

    sampling, judging = _options(run, SamplingOptions, "sampling"), _options(run, JudgingOptions, "judging")
    practised = _some(sampling.problems_per_round, problems)
    sampled = practised * sampling.n * run.rounds
    judged = sampled * {"always": 1.0, "rule_first": assumed.undecided, "rule_only": 0.0}[judging.judge]
    teacher, judge = _options(run, TeacherOptions, "teacher"), _options(run, TeacherOptions, "judge_teacher")
    return Estimate(
        problems=problems,
        teacher={
            "synthesis": _asked(written, assumed.writing, teacher),
            "solving": _asked(solved, assumed.solving, teacher),
            "judging": _asked(judged, assumed.judging, judge),
        },
        gpu_hours=_gpu_hours(run, assumed, problems * solving.n, practised, sampled),
        gigabytes=_gigabytes(run, assumed, written + solved + judged),
    )


def measured(ledger: Iterable[StageRecord]) -> dict[str, dict[str, float]]:
    """Tokens of a request by stage, as a finished run measured them: values for :class:`Assumptions`.

    Args:
        ledger: What every task of the run did.
    """
    usage: dict[str, Usage] = defaultdict(Usage)
    for row in ledger:
        if row.usage:
            usage[row.stage] += row.usage
    names = {"synthesis": "writing", "solving": "solving", "judging": "judging"}
    return {
        name: {"prompt": found.prompt_tokens / found.requests, "reply": found.completion_tokens / found.requests}
        for stage, name in names.items()
        if (found := usage[stage]).requests
    }


def _options(run: RunOptions, kind: type[OptionsT], name: str) -> OptionsT:
    assert SECTIONS[name] is kind
    return parse_options(kind, run.sections[name], name)


def _some(limit: int, there: float) -> float:
    return min(limit, there) if limit else there


def _asked(requests: float, tokens: Tokens, teacher: TeacherOptions) -> Asked:
    prompt, reply = requests * tokens.prompt, requests * tokens.reply
    return Asked(requests, prompt, reply, teacher.usd(prompt, reply))


def _gpu_hours(run: RunOptions, assumed: Assumptions, demonstrations: float, practised: float, sampled: float) -> dict[str, float]:
    sft, tuning = _options(run, SFTOptions, "sft"), _options(run, TuningOptions, "preference_tuning")
    preferences = _options(run, PreferenceOptions, "preferences")
    row = assumed.problem_tokens + assumed.response_tokens
    trained = 8 if assumed.parameters >= 1e9 else 6
    operations_per_hour = assumed.gpu_teraflops * 1e12 * assumed.utilisation * 3_600

    def training(tokens: float, operations: float) -> float:
        return tokens * assumed.parameters * operations / operations_per_hour

    def generating(responses: float) -> float:
        return responses * assumed.response_tokens / assumed.tokens_per_second / 3_600

    # A problem's rows for KTO are the teacher's solution and the responses; of pairs there are at most six, of two responses each.
    per_round = practised * (_options(run, SamplingOptions, "sampling").n + 1)
    if tuning.method == "dpo":
        per_round = practised * 2 * (preferences.max_pairs_per_problem or 6)
    rows = per_round * run.rounds * tuning.epochs
    evaluated = (2 + 2 * run.rounds + 1) * assumed.benchmark_problems
    samples = 1 + int(run.sections["evaluation"].get("samples_per_problem", 0))
    return {
        "sft": training(demonstrations * sft.epochs * row, trained),
        # The reference scores what the policy learns from; the matched control learns from half of the rows, the positive ones.
        "preference_tuning": training(rows * row, trained + 2) + training(rows / 2 * row, trained),
        "sampling": generating(sampled),
        "evaluation": generating(evaluated * samples),
    }


def _gigabytes(run: RunOptions, assumed: Assumptions, replies: float) -> dict[str, float]:
    model = assumed.parameters * 2 / 1e9
    models = 2 + 2 * run.rounds
    return {
        "responses": replies * assumed.bytes_per_reply / 1e9,
        "artifacts": models * model,
        # Weights and AdamW's two moments in 32 bits, of one training at a time.
        "checkpoints": assumed.parameters * 12 / 1e9,
        "models": model,
    }


def text(found: Estimate, assumed: Assumptions) -> str:
    """A table for people."""
    lines = [f"{found.problems:,.0f} training problems of {assumed.seeds:,.0f} seeds", ""]
    lines.append(f"{'teacher':<18}{'requests':>12}{'prompt tokens':>16}{'reply tokens':>16}{'dollars':>12}")
    for stage, asked in found.teacher.items():
        lines.append(f"{stage:<18}{asked.requests:>12,.0f}{asked.prompt_tokens:>16,.0f}{asked.reply_tokens:>16,.0f}{asked.usd:>12,.2f}")
    lines += [f"{'all':<18}{'':>44}{found.usd:>12,.2f}", ""]
    lines.append("GPU hours         " + ", ".join(f"{stage} {hours:,.1f}" for stage, hours in found.gpu_hours.items()))
    lines.append("gigabytes         " + ", ".join(f"{store} {size:,.1f}" for store, size in found.gigabytes.items()))
    return "\n".join(lines)


def assumptions(values: dict[str, Any]) -> Assumptions:
    """Check assumptions.

    Raises:
        ParameterError: A name or value is wrong.
    """
    defaults = msgspec.to_builtins(Assumptions())
    merged = {name: {**defaults[name], **value} if isinstance(value, dict) else value for name, value in values.items() if name in defaults}
    return parse_options(Assumptions, {**values, **merged}, "assume")
