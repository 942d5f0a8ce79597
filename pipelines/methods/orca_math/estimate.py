"""What a run of Orca-Math asks for, counted from its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.evaluation.options import EvaluationOptions
from components.judging.options import JudgingOptions
from components.preference_tuning.options import TuningOptions
from components.preferences.options import PreferenceOptions
from components.sampling.options import SamplingOptions
from components.sft.options import SFTOptions
from components.solving.options import SolvingOptions
from components.synthesis.options import SynthesisOptions
from components.teacher.options import TeacherOptions
from pipelines.forecast.estimate import Assumptions, Estimate, Estimator, Number, Share, Tokens, asked, at_most
from pipelines.methods.orca_math.shape import OrcaMathShape

if TYPE_CHECKING:
    from pipelines.parameters.profile import RunOptions


class OrcaMathAssumptions(Assumptions, frozen=True, kw_only=True):
    """What a profile of Orca-Math does not say; the figures are those of arXiv 2402.14830 where it states them.

    Attributes:
        turned_round_per_seed: Problems that Ask-Me-Anything makes of a seed; Orca-Math's 120,445 of 36,217.
        rewritten_kept: Share of the rewritten problems that is kept; Orca-Math's 37,157 of two rounds on 36,217.
        with_answer: Share of the seeds that have a short answer, without which Ask-Me-Anything has nothing to turn round.
        with_solution: Share of the seeds that have a worked solution, which ``solving.use_gold_solutions`` takes.
        rounds_taken: Share of the rounds of Suggester and Editor that are asked: a conversation ends with the first that brings nothing.
        undecided: Share of responses that the rules cannot decide, and the judge is asked about (our choice).
        writing: Requests of the agents; prompts as measured with ours, replies our choice.
        solving: Requests for solutions, likewise.
        judging: Requests to the judge, likewise.
    """

    turned_round_per_seed: Number = 3.326
    rewritten_kept: Share = 0.513
    with_answer: Share = 1.0
    with_solution: Share = 1.0
    rounds_taken: Share = 1.0
    undecided: Share = 0.05
    writing: Tokens = Tokens(prompt=380, reply=220)
    solving: Tokens = Tokens(prompt=260, reply=250)
    judging: Tokens = Tokens(prompt=500, reply=60)


def estimate(run: RunOptions, assumed: OrcaMathAssumptions) -> Estimate:
    """Count what a run of a profile asks for, with empty caches and nothing failing.

    Args:
        run: Checked options.
        assumed: What they do not say.
    """
    synthesis, solving = run.section(SynthesisOptions, "synthesis"), run.section(SolvingOptions, "solving")
    turned = at_most(synthesis.ask_me_anything_seeds, assumed.seeds) * assumed.with_answer if synthesis.ask_me_anything else 0.0
    conversations = at_most(synthesis.suggester_editor_seeds, assumed.seeds) if synthesis.suggester_editor else 0.0
    rewritten = conversations * synthesis.rounds * assumed.rounds_taken
    problems = assumed.seeds + turned * assumed.turned_round_per_seed + rewritten * assumed.rewritten_kept
    # Suggester and Editor, and the third agent where it is asked; the solutions that the length filter looks at are solving's.
    checks = int(synthesis.check_solvable)
    written = turned * (1 + assumed.turned_round_per_seed * checks) + rewritten * (2 + checks)
    unsolved = assumed.seeds * (1 - assumed.with_solution * solving.use_gold_solutions)
    questions = unsolved + problems - assumed.seeds
    solved = questions + rewritten * (1 - assumed.rewritten_kept) + questions * (solving.n - 1)

    sampling, judging = run.section(SamplingOptions, "sampling"), run.section(JudgingOptions, "judging")
    rounds = run.shape_of(OrcaMathShape).rounds
    practised = at_most(sampling.problems_per_round, problems)
    sampled = practised * sampling.n * rounds
    judged = sampled * {"always": 1.0, "rule_first": assumed.undecided, "rule_only": 0.0}[judging.judge]
    teacher, judge = run.section(TeacherOptions, "teacher"), run.section(TeacherOptions, "judge_teacher")
    return Estimate(
        problems=problems,
        teacher={
            "synthesis": asked(written, assumed.writing, teacher),
            "solving": asked(solved, assumed.solving, teacher),
            "judging": asked(judged, assumed.judging, judge),
        },
        gpu_hours=_gpu_hours(run, assumed, problems * solving.n, practised, sampled),
        gigabytes=assumed.gigabytes(replies=written + solved + judged, models=2 + 2 * rounds),
    )


def _gpu_hours(run: RunOptions, assumed: OrcaMathAssumptions, demonstrations: float, practised: float, sampled: float) -> dict[str, float]:
    sft, tuning = run.section(SFTOptions, "sft"), run.section(TuningOptions, "preference_tuning")
    preferences, rounds = run.section(PreferenceOptions, "preferences"), run.shape_of(OrcaMathShape).rounds
    # A problem's rows for KTO are the teacher's solution and the responses; of pairs there are at most six, of two responses each.
    per_round = practised * (run.section(SamplingOptions, "sampling").n + 1)
    if tuning.method == "dpo":
        per_round = practised * 2 * (preferences.max_pairs_per_problem or 6)
    tokens = per_round * rounds * tuning.epochs * assumed.row_tokens
    evaluated = (2 + 2 * rounds + 1) * assumed.benchmark_problems
    samples = 1 + run.section(EvaluationOptions, "evaluation").samples_per_problem
    return {
        "sft": assumed.training_hours(demonstrations * sft.epochs * assumed.row_tokens),
        # The reference scores what the policy learns from; the matched control learns from half of the rows, the positive ones.
        "preference_tuning": assumed.training_hours(tokens, scored=True) + assumed.training_hours(tokens / 2),
        "sampling": assumed.generation_hours(sampled),
        "evaluation": assumed.generation_hours(evaluated * samples),
    }


ESTIMATOR = Estimator(OrcaMathAssumptions, estimate, {"synthesis": "writing", "solving": "solving", "judging": "judging"})
