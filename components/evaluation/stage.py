"""What can the student do? Greedy answers and a pool of samples on every benchmark problem, marked by rules."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from components.core.errors import EmptyOutputError
from components.core.records import ModelEntry, Problem, ProblemResult, Record, Sample, digest_of, read_records, row_id, write_records
from components.core.stage import StageRun
from components.evaluation.options import EvaluationOptions
from components.evaluation.scoring import benchmark_name, score
from components.grading.answers import canonical, is_correct
from components.stats.proportions import mean
from components.student.generation.chunks import discard_chunks
from components.student.generation.pool import FREE, Prompt, generate_pool
from components.student.generation.sampler import sample_seed
from components.student.models.load import ModelInfo, read_info, version_uri

CHAMPION = "champion"
"""Id of the champion among the models of a run."""
MARKING = ("majority_shuffles",)
"""Options of the marking: they do not change what is generated."""


class Outcome(Record, frozen=True, kw_only=True):
    """A problem's result with what only the record needs."""

    result: ProblemResult
    undecided: int
    """Responses that the rules could not decide; counted as wrong."""
    sample_tokens: int
    cut: int
    """Responses that reached max_new_tokens."""


def run(
    model: str, benchmarks: str, options: EvaluationOptions, stage: StageRun, *, name: str, checkpoints: str, seed: int, output: str
) -> ModelInfo:
    """Evaluate one model.

    Args:
        model: Folder or store URI of the model.
        benchmarks: Problem rows with answers; a benchmark is a source, its dev split a benchmark of its own.
        options: The stage's options.
        stage: Gets scores, counts and progress.
        name: Id of the model in the ledger (``M1``), to which its scores refer.
        checkpoints: Store URI for finished chunks.
        seed: Seed of the samples: the same for every model, so that models are compared on equal luck.
        output: Where to write ProblemResult rows.

    Returns:
        What the model's folder says about it.

    Raises:
        EmptyOutputError: There is no benchmark problem with an answer.
        ModelError: The model does not load, or memory runs out.
    """
    from components.student.models.load import localise

    folder = str(localise(model))
    problems = list(read_records(benchmarks, Problem))
    stage.rows_in = len(problems)
    answered = [problem for problem in problems if problem.answer is not None]
    for problem in problems:
        if problem.answer is None:
            stage.drop("no_answer", row=problem)
    if not answered:
        raise EmptyOutputError("evaluation: there is no benchmark problem with an answer", "see the counts of the seeds stage")
    settings = {key: value for key, value in msgspec.to_builtins(options).items() if key not in (*FREE, *MARKING)}
    info = read_info(folder)
    key = row_id("evaluation", info.digest, digest_of(benchmarks), settings, name, seed)
    # Pooled splits first, then long questions: chunks are alike, and memory runs out at once or not at all.
    answered.sort(key=lambda problem: (_pool(problem, options) == 0, -len(problem.question), problem.id, problem.source))
    prompts = [
        Prompt(
            problem.id,
            problem.question,
            tuple(sample_seed("evaluation", seed, problem.id, index) for index in range(_pool(problem, options))),
            greedy=True,
            source=problem.source,
            split=problem.split,
        )
        for problem in answered
    ]
    pool = generate_pool(
        folder, prompts, options, stage, temperature=options.temperature, top_p=options.top_p, checkpoints=checkpoints, key=key
    )
    outcomes = grade(answered, pool.rows, name)
    _report(outcomes, options, stage, name)
    stage.counts["resumed_problems"] = pool.resumed
    write_records(output, [outcome.result for outcome in outcomes])
    discard_chunks(checkpoints, key)
    return info


def run_champion(
    models: str, champion: str, benchmarks: str, options: EvaluationOptions, stage: StageRun, *, checkpoints: str, seed: int, output: str
) -> None:
    """Evaluate the current champion; with none, write no results and load nothing.

    Args:
        models: Store URI of published models.
        champion: Version name, or empty when there is none yet.
        benchmarks: Problem rows.
        options: The stage's options.
        stage: Gets scores, counts and progress.
        checkpoints: Store URI for finished chunks.
        seed: Seed of the samples.
        output: Where to write ProblemResult rows.
    """
    if not champion:
        write_records(output, [])
        return
    model = f"{version_uri(models, champion)}/model"
    info = run(model, benchmarks, options, stage, name=CHAMPION, checkpoints=checkpoints, seed=seed, output=output)
    stage.models.append(ModelEntry(id=CHAMPION, role="champion", parameters=info.parameters))


def _pool(problem: Problem, options: EvaluationOptions) -> int:
    return options.samples_per_problem if problem.split in options.sampled_splits else 0


def grade(problems: Sequence[Problem], responses: Sequence[Sample], name: str) -> list[Outcome]:
    """Mark a pool of responses by rules; nothing is generated.

    Args:
        problems: With answers.
        responses: The greedy response to each, and its samples.
        name: Id of the model.
    """
    pools: dict[tuple[str, str, str], list[Sample]] = {}
    for row in responses:
        pools.setdefault((row.problem_id, row.source, row.split), []).append(row)
    outcomes = []
    for problem in problems:
        rows = sorted(pools[problem.id, problem.source, problem.split], key=lambda row: (row.temperature > 0, row.sample))
        response, *pool = rows
        verdict, *verdicts = [is_correct(problem.answer or "", item.text, problem.alternatives) for item in [response, *pool]]
        result = ProblemResult(
            model=name,
            benchmark=benchmark_name(problem),
            problem_id=problem.id,
            source=problem.source,
            split=problem.split,
            steps=problem.steps,
            question=problem.question,
            reference=problem.answer or "",
            response=response.text,
            answer=verdict.answer,
            correct=bool(verdict.correct),
            tokens=response.tokens,
            sample_answers=[None if item.answer is None else canonical(item.answer) for item in verdicts],
            sample_correct=[bool(item.correct) for item in verdicts],
        )
        outcomes.append(
            Outcome(
                result=result,
                undecided=sum(item.correct is None for item in [verdict, *verdicts]),
                sample_tokens=sum(item.tokens for item in pool),
                cut=sum(item.finish == "length" for item in [response, *pool]),
            )
        )
    return outcomes


def _report(outcomes: Sequence[Outcome], options: EvaluationOptions, stage: StageRun, name: str) -> None:
    results = [outcome.result for outcome in outcomes]
    stage.rows_kept = len(results)
    for benchmark in sorted({result.benchmark for result in results}):
        mine = [result for result in results if result.benchmark == benchmark]
        stage.scores.append(score(name, benchmark, mine, options.majority_shuffles))
    samples = sum(len(result.sample_correct) for result in results)
    stage.counts.update(
        undecided=sum(outcome.undecided for outcome in outcomes),
        cut_at_max_new_tokens=sum(outcome.cut for outcome in outcomes),
        greedy_tokens=mean([float(result.tokens) for result in results]),
        sampled_tokens=sum(outcome.sample_tokens for outcome in outcomes) / samples if samples else 0.0,
    )
    for result in sorted(results, key=lambda result: result.problem_id):
        stage.example("result_right" if result.correct else "result_wrong", result)
