"""The Orca-Math method (arXiv 2402.14830) as one Kubeflow pipeline.

Seeds are rewritten by agents and solved by the teacher; the base model M0 is tuned on the solutions to M1; in each practice
round the model answers the problems, the answers are judged, and preference tuning makes the next model from right and wrong
answers. Every round also trains a matched control: the same positives, order and number of steps, without the preference term.
"""

from typing import NamedTuple

import msgspec
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.base_model.component import base_model
from components.contamination.component import decontaminate
from components.evaluation.component import evaluate, evaluate_champion
from components.judging.component import judge
from components.ledger.component import gather
from components.preference_tuning.component import tune
from components.preferences.component import build_preferences
from components.promotion.component import compare, current_champion, publish, starting_point
from components.report.component import report
from components.sampling.component import sample
from components.seeds.component import collect_benchmarks, collect_seeds, sources_version
from components.sft.component import sft
from components.solving.component import solve
from components.synthesis.component import synthesize
from pipelines.cluster import ClusterOptions
from pipelines.control.component import end_run, keep_results, preflight
from pipelines.task_settings import TaskSettings

ROUNDS = 2
"""Practice rounds of the paper: M1 to M2 to M3."""


class Round(NamedTuple):
    model: Model
    results: Dataset
    ledger: Artifact


def practice_round(number: int, settings: TaskSettings):
    """Build the nested pipeline of one practice round.

    Args:
        number: 1-based; round r samples model M<r> and trains M<r+1>.
        settings: Of its tasks.

    Returns:
        A pipeline component with outputs ``model``, ``results`` (of the new model) and ``ledger``.
    """

    configure = settings.configure

    @dsl.pipeline(
        name=f"practice-round-{number}",
        description=f"M{number} answers, a judge marks, preference tuning makes M{number + 1}; a matched control trains beside it.",
    )
    def practice(
        model: Input[Model],
        sft_model: Input[Model],
        train: Input[Dataset],
        benchmarks: Input[Dataset],
        judge_teacher: dict,
        sampling: dict,
        judging: dict,
        preferences: dict,
        preference_tuning: dict,
        evaluation: dict,
        responses: str,
        checkpoints: str,
        records: str,
        seed: int,
        shards: list[str],
    ) -> Round:
        with dsl.ParallelFor(shards, name="shards") as shard:
            sampled = configure(
                sample(model=model, train=train, options=sampling, checkpoints=checkpoints, round=number, seed=seed, shard=shard),
                f"Sample M{number}",
                "generation",
            )
            judged = configure(
                judge(
                    samples=sampled.outputs["samples"],
                    train=train,
                    teacher=judge_teacher,
                    options=judging,
                    responses=responses,
                    records=records,
                    round=number,
                    shard=shard,
                ),
                "Judge the answers",
                "teacher",
            )
        built = configure(
            build_preferences(judged=dsl.Collected(judged.outputs["judged"]), train=train, options=preferences, round=number, seed=seed),
            "Build preferences",
            "data",
        )
        tuned = {}
        scored = {}
        for arm, name in (("preference", f"M{number + 1}"), ("control", f"M{number + 1}-control")):
            tuned[arm] = configure(
                tune(
                    model=model,
                    sft_model=sft_model,
                    pairs=built.outputs["pairs"],
                    labelled=built.outputs["labelled"],
                    options=preference_tuning,
                    checkpoints=checkpoints,
                    round=number,
                    arm=arm,
                    seed=seed,
                ),
                f"Train {name}",
                "training",
            )
            scored[arm] = configure(
                evaluate(
                    model=tuned[arm].outputs["tuned"],
                    benchmarks=benchmarks,
                    options=evaluation,
                    name=name,
                    checkpoints=checkpoints,
                    seed=seed,
                ),
                f"Evaluate {name}",
                "generation",
            )
        gathered = configure(
            gather(
                records_1=dsl.Collected(sampled.outputs["record"]),
                records_2=dsl.Collected(judged.outputs["record"]),
                record_1=built.outputs["record"],
                record_2=tuned["preference"].outputs["record"],
                record_3=tuned["control"].outputs["record"],
                record_4=scored["preference"].outputs["record"],
                record_5=scored["control"].outputs["record"],
            ),
            f"Ledger of round {number}",
            "data",
        )
        return Round(
            model=tuned["preference"].outputs["tuned"],
            results=scored["preference"].outputs["results"],
            ledger=gathered.outputs["ledger"],
        )

    return practice


def teaching(rounds: int, settings: TaskSettings):
    """Build the nested pipeline of everything from seeds to publication.

    A pipeline of its own since KFP cannot run a loop directly in an exit handler (kubeflow/pipelines issue 12390).

    Args:
        rounds: Number of practice rounds, 1 or more.
        settings: Of its tasks.

    Returns:
        A pipeline component.
    """
    practice = {number: practice_round(number, settings) for number in range(1, rounds + 1)}
    configure = settings.configure

    @dsl.pipeline(name="teaching", description="Seeds to problems to solutions to M1; practice rounds; comparison, report, publication.")
    def teach(
        seeds: dict,
        benchmarks: dict,
        teacher: dict,
        judge_teacher: dict,
        synthesis: dict,
        solving: dict,
        contamination: dict,
        student: dict,
        sft_options: dict,
        sampling: dict,
        judging: dict,
        preferences: dict,
        preference_tuning: dict,
        evaluation: dict,
        promotion: dict,
        responses: str,
        checkpoints: str,
        models: str,
        records: str,
        pipeline_digest: str,
        seed: int,
        data_shards: list[str],
        sampling_shards: list[str],
    ):
        versions = {
            role: configure(sources_version(options=options, role=role), f"Version of the {role}", "data", cached=False)
            for role, options in (("benchmarks", benchmarks), ("seeds", seeds))
        }
        evals = configure(
            collect_benchmarks(options=benchmarks, seed=seed, version=versions["benchmarks"].output), "Collect benchmarks", "data"
        )
        # The model is loaded before any teacher request is paid for: a base model that does not load costs nothing.
        start = configure(starting_point(models=models, student=student), "Starting point", "data", cached=False)
        base = configure(
            base_model(benchmarks=evals.outputs["problems"], options=student, champion=start.output, models=models, seed=seed),
            "Base model M0",
            "model",
        )
        collected = configure(
            collect_seeds(options=seeds, seed=seed, version=versions["seeds"].output).after(base), "Collect seeds", "data"
        )
        with dsl.ParallelFor(data_shards, name="shards") as shard:
            written = configure(
                synthesize(
                    seeds=collected.outputs["problems"],
                    teacher=teacher,
                    options=synthesis,
                    responses=responses,
                    records=records,
                    seed=seed,
                    shard=shard,
                ),
                "Agents write problems",
                "teacher",
            )
            solved = configure(
                solve(
                    problems=written.outputs["problems"],
                    teacher=teacher,
                    options=solving,
                    responses=responses,
                    records=records,
                    seed=seed,
                    shard=shard,
                ),
                "Teacher solves",
                "teacher",
            )
        clean = configure(
            decontaminate(
                demonstrations=dsl.Collected(solved.outputs["demonstrations"]),
                benchmarks=evals.outputs["problems"],
                corpus=base.outputs["corpus"],
                options=contamination,
            ),
            "Contamination gate",
            "data",
        )
        train = clean.outputs["train"]
        first = configure(
            sft(base=base.outputs["model"], train=train, options=sft_options, checkpoints=checkpoints, seed=seed),
            "Train M1 (SFT)",
            "training",
        )
        scored = {}
        for name, trained in (("M0", base), ("M1", first)):
            scored[name] = configure(
                evaluate(
                    model=trained.outputs["model"],
                    benchmarks=evals.outputs["problems"],
                    options=evaluation,
                    name=name,
                    checkpoints=checkpoints,
                    seed=seed,
                ),
                f"Evaluate {name}",
                "generation",
            )
        ledger = configure(
            gather(
                record_1=collected.outputs["record"],
                record_2=evals.outputs["record"],
                record_3=base.outputs["record"],
                records_1=dsl.Collected(written.outputs["record"]),
                records_2=dsl.Collected(solved.outputs["record"]),
                record_4=clean.outputs["record"],
            ),
            "Ledger of the data",
            "data",
        )
        ledger = configure(
            gather(
                previous=ledger.outputs["ledger"],
                record_1=first.outputs["record"],
                record_2=scored["M0"].outputs["record"],
                record_3=scored["M1"].outputs["record"],
            ),
            "Ledger of M0 and M1",
            "data",
        )
        model, results = first.outputs["model"], scored["M1"].outputs["results"]
        for number, practise in practice.items():
            practised = practise(
                model=model,
                sft_model=first.outputs["model"],
                train=train,
                benchmarks=evals.outputs["problems"],
                judge_teacher=judge_teacher,
                sampling=sampling,
                judging=judging,
                preferences=preferences,
                preference_tuning=preference_tuning,
                evaluation=evaluation,
                responses=responses,
                checkpoints=checkpoints,
                records=records,
                seed=seed,
                shards=sampling_shards,
            ).set_display_name(f"Practice round {number}: M{number} to M{number + 1}")
            model, results = practised.outputs["model"], practised.outputs["results"]
            ledger = configure(
                gather(previous=ledger.outputs["ledger"], ledger_of_round=practised.outputs["ledger"]),
                f"Ledger up to M{number + 1}",
                "data",
            )
        # What the champion is changes between runs while every parameter stays the same.
        champion = configure(current_champion(models=models), "Current champion", "data", cached=False)
        champion_scored = configure(
            evaluate_champion(
                models=models,
                champion=champion.output,
                benchmarks=evals.outputs["problems"],
                options=evaluation,
                checkpoints=checkpoints,
                seed=seed,
            ),
            "Evaluate the champion",
            "generation",
        )
        compared = configure(
            compare(
                ledger=ledger.outputs["ledger"],
                results=results,
                base_results=scored["M0"].outputs["results"],
                champion_results=champion_scored.outputs["results"],
                champion=champion.output,
                options=promotion,
            ),
            "Compare with the champion",
            "data",
        )
        page = configure(report(ledger=ledger.outputs["ledger"], decision=compared.outputs["decision"]), "Report", "data")
        published = configure(
            publish(
                model=model,
                train=train,
                results=results,
                decision=compared.outputs["decision"],
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=ledger.outputs["ledger"],
                options=promotion,
                models=models,
                pipeline_digest=pipeline_digest,
            ),
            "Publish",
            "data",
            publishes=True,
        )
        configure(
            keep_results(
                records=records,
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=ledger.outputs["ledger"],
                decision=compared.outputs["decision"],
                card=published.outputs["card"],
            ),
            "Keep the results",
            "control",
            cached=False,
        )

    return teach


def build(rounds: int = ROUNDS, settings: TaskSettings | None = None):
    """Build the pipeline with its practice rounds unrolled.

    Args:
        rounds: Number of practice rounds, 1 or more.
        settings: Of its tasks.

    Returns:
        The pipeline, ready for the KFP compiler.
    """
    settings = settings or TaskSettings(ClusterOptions())
    teach = teaching(rounds, settings)

    @dsl.pipeline(
        name="orca-math",
        display_name="Orca-Math",
        description=f"Agents write problems, a teacher solves them, a student learns, practises and is marked in {rounds} rounds.",
        pipeline_config=settings.pipeline_config(),
    )
    def orca_math(
        seeds: dict,
        benchmarks: dict,
        teacher: dict,
        judge_teacher: dict,
        synthesis: dict,
        solving: dict,
        contamination: dict,
        student: dict,
        sft_options: dict,
        sampling: dict,
        judging: dict,
        preferences: dict,
        preference_tuning: dict,
        evaluation: dict,
        promotion: dict,
        responses: str,
        checkpoints: str,
        models: str,
        records: str,
        profile: str = "",
        pipeline_digest: str = "",
        seed: int = 0,
        data_shards: list[str] = ["0/1"],
        sampling_shards: list[str] = ["0/1"],
    ):
        ended = settings.configure(end_run(records=records), "Record how the run ended", "control", cached=False)
        with dsl.ExitHandler(ended, name="Run"):
            checked = settings.configure(
                preflight(
                    seeds=seeds,
                    benchmarks=benchmarks,
                    teacher=teacher,
                    judge_teacher=judge_teacher,
                    synthesis=synthesis,
                    solving=solving,
                    contamination=contamination,
                    student=student,
                    sft=sft_options,
                    sampling=sampling,
                    judging=judging,
                    preferences=preferences,
                    preference_tuning=preference_tuning,
                    evaluation=evaluation,
                    promotion=promotion,
                    cluster=msgspec.to_builtins(settings.cluster),
                    launchers=sorted(settings.launchers),
                    responses=responses,
                    checkpoints=checkpoints,
                    models=models,
                    records=records,
                    profile=profile,
                    pipeline_digest=pipeline_digest,
                    seed=seed,
                    data_shards=data_shards,
                    sampling_shards=sampling_shards,
                    rounds=rounds,
                ),
                "Preflight",
                "control",
                cached=False,
                retried=False,
                # With the keys of the task that comes last: what they lack would show after everything is paid for.
                publishes=True,
                asks_teacher=True,
            )
            teach(
                seeds=seeds,
                benchmarks=benchmarks,
                teacher=teacher,
                judge_teacher=judge_teacher,
                synthesis=synthesis,
                solving=solving,
                contamination=contamination,
                student=student,
                sft_options=sft_options,
                sampling=sampling,
                judging=judging,
                preferences=preferences,
                preference_tuning=preference_tuning,
                evaluation=evaluation,
                promotion=promotion,
                responses=responses,
                checkpoints=checkpoints,
                models=models,
                records=records,
                pipeline_digest=pipeline_digest,
                seed=seed,
                data_shards=data_shards,
                sampling_shards=sampling_shards,
            ).after(checked).set_display_name("Teach the student")

    return orca_math
