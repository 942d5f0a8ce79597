"""A made-up but consistent ledger for tests of report and promotion: results are drawn per problem, scores computed from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from scipy.stats import binomtest

from components.core.records import (
    ContaminationMatch,
    Demonstration,
    JudgedSample,
    ModelEntry,
    PreferencePair,
    Problem,
    ProblemResult,
    Score,
    StageRecord,
    Usage,
    problem_id,
    row_id,
    write_records,
)

SKILL = {"M0": 0.27, "M1": 0.49, "M2": 0.58, "M2-control": 0.61, "M3": 0.68, "M3-control": 0.69}
"""Chance of each model to be right on a problem of middling difficulty."""


def question(rng: random.Random) -> tuple[str, str, int, list[int]]:
    """A two-step word problem of our own: question, solution, answer, numbers."""
    name, thing = rng.choice(["Ines", "Tomas", "Wen", "Odile", "Farid"]), rng.choice(["plums", "beads", "stamps", "shells"])
    boxes, each, gone = rng.randint(3, 9), rng.randint(4, 12), rng.randint(2, 11)
    text = f"{name} packs {each} {thing} into each of {boxes} tins and gives {gone} {thing} away. How many {thing} are left?"
    total = boxes * each
    return text, f"First {boxes} * {each} = {total}. So {total} - {gone} = {total - gone}.\n#### {total - gone}", total - gone, [each, gone]


def results(
    model: str, benchmark: str, *, split: str = "test", n: int = 300, seed: int = 0, skill: float | None = None, samples: int = 8
) -> list[ProblemResult]:
    """Draw what a model did on a benchmark: the same problems for every model, difficulty shared between models."""
    hard = random.Random(f"{benchmark}/{split}/{seed}")
    luck = random.Random(f"{model}/{benchmark}/{split}/{seed}")
    skill = SKILL[model] if skill is None else skill
    rows = []
    for index in range(n):
        text, solution, answer, _ = question(hard)
        text = f"{text[:-1]} on day {index + 1}?"
        steps, ease = 1 + index % 3, hard.gauss(0.0, 0.18)
        chance = min(0.98, max(0.02, skill + ease - 0.09 * (steps - 2)))
        drawn = [luck.random() < chance * 0.9 for _ in range(samples)]
        correct = luck.random() < chance
        given = answer if correct else answer + luck.choice([-2, -1, 1, 3])
        rows.append(
            ProblemResult(
                model=model,
                benchmark=f"{benchmark}-dev" if split == "dev" else benchmark,
                problem_id=problem_id(text),
                source=benchmark if index % 2 else f"{benchmark}-b",
                split=split,
                steps=steps,
                question=text,
                reference=str(answer),
                response=solution.replace(f"#### {answer}", f"#### {given}"),
                answer=str(given),
                correct=correct,
                tokens=luck.randint(18, 40),
                sample_answers=[str(answer if right else answer + 1 + luck.randint(0, 3)) for right in drawn],
                sample_correct=drawn,
            )
        )
    return rows


def _part(rows: Sequence[ProblemResult]) -> dict[str, float]:
    return {"n": len(rows), "pass_at_1": sum(row.correct for row in rows) / len(rows)}


def score(rows: Sequence[ProblemResult]) -> Score:
    """Score of one model on one benchmark."""
    right, n = sum(row.correct for row in rows), len(rows)
    bounds = binomtest(right, n).proportion_ci(method="wilson")
    samples = len(rows[0].sample_correct)
    pools = [size for size in (1, 2, 4, 8, 16) if size <= samples]
    return Score(
        model=rows[0].model,
        benchmark=rows[0].benchmark,
        n=n,
        pass_at_1=right / n,
        low=float(bounds.low),
        high=float(bounds.high),
        samples=samples,
        pass_at_n={str(size): sum(any(row.sample_correct[:size]) for row in rows) / n for size in pools},
        pass_ratio_at_n=sum(sum(row.sample_correct) for row in rows) / n / samples if samples else None,
        majority_at_n={
            str(size): sum(Counter(row.sample_answers[:size]).most_common(1)[0][0] == row.reference for row in rows) / n for size in pools
        },
        by_steps={str(steps): _part([row for row in rows if row.steps == steps]) for steps in (1, 2, 3)},
        by_source={name: _part([row for row in rows if row.source == name]) for name in sorted({row.source for row in rows})},
        mean_tokens=sum(row.tokens for row in rows) / n,
    )


def _record(stage: str, task: str, seconds: float, **fields: Any) -> StageRecord:
    return StageRecord(stage=stage, task=task, started_at="2026-11-22T03:00:00+00:00", seconds=seconds, **fields)


ENTRIES = {
    "M0": ModelEntry(id="M0", role="base", stage="base_model"),
    "M1": ModelEntry(id="M1", role="sft", parent="M0", stage="sft", rows=2236),
}


def entry(name: str) -> ModelEntry:
    """Entry of a model of the Orca-Math loop: M0, M1, then by the round that makes it."""
    if name in ENTRIES:
        return ENTRIES[name]
    number, control = int(name.removesuffix("-control")[1:]), name.endswith("-control")
    return ModelEntry(
        id=name,
        role="control" if control else "preference",
        parent=f"M{number - 1}",
        stage="preference_tuning",
        round=number - 1,
        arm="control" if control else "preference",
        rows=2400,
        control_of=f"M{number}" if control else "",
    )


def _examples(rows: Sequence[msgspec.Struct]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(row) for row in rows]


def data_records(rng: random.Random, extra_text: str = "") -> list[StageRecord]:
    """Records of the stages that make the training data.

    Args:
        rng: Source of the made-up problems.
        extra_text: Put into the first solution, for tests of escaping.
    """
    drawn = [question(rng) for _ in range(6)]
    seeds = [
        Problem(id=problem_id(text), source="builtin", split="train", question=text, answer=str(answer), licence="Apache-2.0")
        for text, _, answer, _ in drawn
    ]
    written = [
        Problem(
            id=problem_id(text + "?"),
            source="builtin",
            split="train",
            question=text,
            licence="Apache-2.0",
            method=method,
            parents=[seeds[0].id],
            maker="offline-teacher",
            prompt=f"{method}@1a2b3c4d",
            round=number,
        )
        for (text, _, _, _), method, number in zip(
            drawn, ["ask_me_anything", "suggester_editor", "ask_me_anything", "suggester_editor"], [0, 1, 0, 2], strict=False
        )
    ]
    solved = [
        Demonstration(
            id=row_id(text),
            problem_id=problem_id(text),
            source="builtin",
            question=text,
            solution=solution + (extra_text if index == 0 else ""),
            answer=str(answer),
            steps=2,
            licence="Apache-2.0",
            method="seed",
            maker="offline-teacher",
        )
        for index, (text, solution, answer, _) in enumerate(drawn)
    ]
    match = ContaminationMatch(
        benchmark="word_problems",
        test_id="t1",
        train_id="a1",
        test_question=drawn[0][0],
        train_question=drawn[0][0].replace("gives", "later gives"),
        check="jaccard",
        cosine=0.91,
        jaccard=[0.88, 0.7, 0.61],
        action="removed",
    )
    teacher = Usage(requests=812, cache_hits=96, retries=3, prompt_tokens=212_400, completion_tokens=96_800, usd=0.0)
    solver = Usage(requests=1710, cache_hits=240, prompt_tokens=301_000, completion_tokens=151_300, usd=0.0)
    files = [{"path": "builtin", "sha256": "9f2c"}]
    lineage = {
        "sources": [{"source": "builtin", "adapter": "builtin", "licences": ["Apache-2.0"], "files": files, "rows": 412, "kept": 400}]
    }
    return [
        _record(
            "seeds",
            "seeds",
            0.6,
            rows_in=412,
            rows_kept=400,
            dropped={"duplicate": 12},
            lineage=lineage,
            examples={"seed": _examples(seeds)},
        ),
        _record("seeds", "benchmarks", 0.5, rows_in=700, rows_kept=700),
        _record("base_model", "base model", 61.0, rows_in=12000, rows_kept=12000, curves=_curve(rng, 60, 4.0, 0.9), models=[entry("M0")]),
        *(
            StageRecord(
                stage="synthesis",
                task="synthesis",
                shard=f"{index}/2",
                started_at="2026-11-22T03:01:05+00:00",
                seconds=14.0 + index,
                rows_in=200,
                rows_kept=1140 + index,
                dropped={"duplicate": 81, "answer_too_long": 3, "several_questions": 17, "not_solvable": 9},
                usage=teacher,
                options={"rounds": 2, "objective": "raise the difficulty"},
                prompts={"ask_me_anything": "ask_me_anything@1a2b3c4d", "suggest": "suggest@5e6f7a8b", "edit": "edit@99aabbcc"},
                examples={
                    "problem": _examples(written),
                    "suggestion": [
                        {"round": 1, "before": drawn[1][0], "suggestions": ["Add a second helper.", "Use a ratio."], "after": drawn[2][0]}
                    ],
                },
            )
            for index in range(2)
        ),
        _record(
            "solving",
            "solving",
            31.0,
            rows_in=2281,
            rows_kept=2250,
            dropped={"gold_mismatch": 21, "no_answer": 10},
            usage=solver,
            counts={"teacher_error_rate": 0.021},
            prompts={"solve": "solve@0badcafe"},
            examples={"demonstration": _examples(solved)},
            options={"solutions": 1},
        ),
        _record(
            "contamination",
            "contamination",
            1.9,
            rows_in=2250,
            rows_kept=2236,
            dropped={"contaminated_jaccard": 9, "contaminated_exact": 5},
            counts={"test_problems": 600, "matches": 16, "exact_tests": 5, "jaccard_tests": 11, "jaccard_tests_gsm8k": 11},
            examples={"match": _examples([match])},
            options={"threshold": 0.5, "k": 10},
        ),
    ]


def _curve(rng: random.Random, steps: int, start: float, end: float, **more: tuple[float, float]) -> list[dict[str, float]]:
    rows = []
    for step in range(1, steps + 1):
        share = 1 - (1 - step / steps) ** 3
        row = {
            "step": step * 5.0,
            "loss": start + (end - start) * share + rng.gauss(0, 0.03 * start),
            "learning_rate": 1e-3 * (1 - step / steps),
        }
        row.update(
            {name.replace("__", "/"): low + (high - low) * share + rng.gauss(0, 0.04 * abs(high)) for name, (low, high) in more.items()}
        )
        rows.append(row)
    return rows


def round_records(number: int, rng: random.Random) -> list[StageRecord]:
    """Records of one practice round without its evaluations."""
    text, solution, answer, _ = question(rng)
    judged = [
        JudgedSample(
            id=row_id(number, index),
            problem_id=problem_id(text),
            question=text,
            model=f"M{number}",
            sample=index,
            text=solution.replace(f"#### {answer}", f"#### {given}"),
            tokens=24,
            reference=str(answer),
            answer=str(given),
            correct=given == answer,
            decided_by="rule",
        )
        for index, given in enumerate([answer, answer, answer + 2, answer - 1])
    ]
    pairs = [
        PreferencePair(
            id=row_id("pair", number, origin),
            problem_id=problem_id(text),
            question=text,
            chosen=solution,
            rejected=rejected,
            chosen_from="teacher",
            rejected_from=origin,
            chosen_id="c",
            rejected_id="r",
        )
        for origin, rejected in (("student", judged[2].text), ("synthetic", question(rng)[1]))
    ]
    new = f"M{number + 1}"
    preference = {"rewards__margins": (0.0, 1.9), "rewards__accuracies": (0.5, 0.83), "chosen_tokens": (25.0, 26.5)}
    return [
        _record(
            "sampling",
            f"sampling M{number}",
            27.0,
            round=number,
            rows_in=1500,
            rows_kept=6000,
            options={"n": 4, "temperature": 0.7, "top_p": 0.95},
        ),
        _record(
            "judging",
            f"judging M{number}",
            3.1,
            round=number,
            rows_in=6000,
            rows_kept=6000,
            usage=Usage(requests=41, prompt_tokens=9000, completion_tokens=2100),
            counts={
                "correct": 2800 + 300 * number,
                "pass_ratio": 0.47,
                "by_rule": 5959,
                "judge_n": 5276,
                "judge_precision": 0.991,
                "judge_recall": 0.987,
                "decided_by_judge": 41,
                "unparsable": 2,
            },
            examples={"right": _examples(judged[:2]), "wrong": _examples(judged[2:])},
        ),
        _record(
            "preferences",
            f"preferences M{number}",
            0.8,
            round=number,
            rows_in=6000,
            rows_kept=2400,
            counts={"pairs": 2400, "synthetic_pairs": 310, "synthetic_share": 310 / 2400, "desirable": 4100, "undesirable": 3400},
            examples={"pair": _examples(pairs)},
        ),
        _record(
            "preference_tuning",
            f"tuning {new} preference",
            41.0,
            round=number,
            models=[entry(new)],
            rows_in=2400,
            rows_kept=2400,
            options={"beta": 0.3, "learning_rate": 0.001},
            lineage={"method": "dpo"},
            counts={"steps": 300, "chosen_tokens": 25.4, "rejected_tokens": 26.1},
            curves=_curve(rng, 60, 0.7, 0.31, **preference),
        ),
        _record(
            "preference_tuning",
            f"tuning {new} control",
            36.0,
            round=number,
            models=[entry(f"{new}-control")],
            rows_in=2400,
            rows_kept=2400,
            options={"method": "dpo", "beta": 0.3},
            curves=_curve(rng, 60, 0.7, 0.29, chosen_tokens=(25.0, 25.2)),
        ),
    ]


def sample_ledger(
    *,
    rounds: int = 2,
    benchmarks: Sequence[str] = ("word_problems",),
    samples: int = 8,
    controls: bool = True,
    n: int = 300,
    extra_text: str = "",
) -> list[StageRecord]:
    """A whole run's ledger.

    Args:
        rounds: Practice rounds; 0 gives M0 and M1 only.
        benchmarks: Test sets; each has a development set of the same name for the first of them.
        samples: Size of the sample pool; 0 for greedy only.
        controls: Whether matched controls were trained.
        n: Problems per test set.
        extra_text: Put into the first teacher solution, for tests of escaping.
    """
    rng = random.Random(7)
    records = data_records(rng, extra_text)
    records.append(
        _record(
            "sft",
            "sft",
            21.0,
            rows_in=2236,
            rows_kept=2236,
            curves=_curve(rng, 140, 1.4, 0.35),
            options={"epochs": 1, "learning_rate": 0.0015},
            models=[entry("M1")],
        )
    )
    names = ["M0", "M1"]
    for number in range(1, rounds + 1):
        records += round_records(number, rng)
        names += [f"M{number + 1}"] + ([f"M{number + 1}-control"] if controls else [])
    for name in names:
        tables = [results(name, benchmark, n=n, samples=samples) for benchmark in benchmarks]
        tables.append(results(name, benchmarks[0], split="dev", n=n, samples=samples))
        answered = tables[0]
        shown = {
            "result_right": _examples([row for row in answered if row.correct][:2]),
            "result_wrong": _examples([row for row in answered if not row.correct][:2]),
        }
        records.append(
            _record(
                "evaluation", f"evaluation {name}", 12.0, rows_in=n, rows_kept=n, scores=[score(table) for table in tables], examples=shown
            )
        )
    return records


def write_ledger(path: Path, records: Sequence[StageRecord]) -> Path:
    """Write a ledger file."""
    write_records(path, records)
    return path
