"""Build the preference data of one practice round."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.records import Demonstration, JudgedSample, LabelledResponse, PreferencePair, read_records, row_id, write_records
from components.core.stage import StageRun
from components.preferences.options import PreferenceOptions
from components.preferences.pairing import (
    Candidates,
    Response,
    all_right_or_wrong,
    choose_pairs,
    labelled_rows,
    lend_negatives,
    make_pair,
    why_no_pair,
)


def run(
    judged: Sequence[Path],
    train: Path,
    pairs: Path,
    labelled: Path,
    options: PreferenceOptions,
    stage: StageRun,
    *,
    seed: int,
) -> None:
    """Write the DPO pairs and the KTO rows, both in an order shuffled by the seed (KTOTrainer does not shuffle).

    A round without any pair is a result: there are no pairs, the labelled rows are the right responses alone (continued SFT can learn
    from them, KTO cannot), and the record says why. What that means for the round is for its tuning to decide, which knows the method.

    Args:
        judged: Files of ``JudgedSample`` rows, one per shard.
        train: ``Demonstration`` rows: the teacher's solutions.
        pairs: Where the ``PreferencePair`` rows go.
        labelled: Where the ``LabelledResponse`` rows go.
        options: What is paired with what.
        stage: Receives counts; its rows are problems.
        seed: Seed of the synthetic negatives, of the chosen pairs and of both orders.

    Raises:
        InputError: A judged sample belongs to a problem without a demonstration.
    """
    verdicts, problems = _gather(judged, train, options, stage)
    stage.rows_in = len(problems)
    lenders = [problem for problem in problems if problem.negatives]
    kept = []
    for problem in problems:
        if not problem.positives:
            stage.drop("no_positive", row=_told(problem))
            continue
        if not problem.negatives:
            lent = lend_negatives(problem, lenders, options.synthetic_negatives, seed)
            if not lent:
                stage.drop("no_negative", row=_told(problem))
                continue
            problem = Candidates(problem.problem_id, problem.question, problem.positives, lent)
        kept.append(problem)
    stage.rows_kept = len(kept)
    if not kept:
        stage.left_out = why_no_pair(verdicts, stage.dropped)
        print(f"{stage.task}: no pair could be made: {stage.left_out}", flush=True)
        # They lack only what to be paired with; without synthetic negatives such problems are left out on purpose.
        kept = [problem for problem in problems if problem.positives and options.synthetic_negatives]
    counts: dict[str, float] = dict.fromkeys(
        ("pairs", "synthetic_pairs", "cut_pairs", "repeated_pairs", "labelled", "desirable", "undesirable"), 0
    )
    write_records(pairs, _count_pairs(_pairs(kept, options, seed, counts), counts, stage))
    write_records(labelled, _count_labels(_shuffled_labels(kept, options, seed), counts))
    counts["synthetic_share"] = round(counts["synthetic_pairs"] / max(counts["pairs"], 1), 4)
    for side in ("positives", "negatives"):
        for problem in kept:
            for response in getattr(problem, side):
                counts[f"{side}_{response.origin}"] = counts.get(f"{side}_{response.origin}", 0) + 1
    stage.counts.update(counts)


def _told(problem: Candidates) -> dict[str, Any]:
    """A problem with its responses, for people to read."""
    texts = {side: [response.text for response in getattr(problem, side)] for side in ("positives", "negatives")}
    return {"problem_id": problem.problem_id, "question": problem.question, **texts}


def _gather(
    judged: Sequence[Path], train: Path, options: PreferenceOptions, stage: StageRun
) -> tuple[dict[str, list[bool]], list[Candidates]]:
    """Verdicts, and positives and negatives, of every sampled problem, in the order of the problems' ids, whatever that of the files."""
    samples: dict[str, list[JudgedSample]] = defaultdict(list)
    origin: dict[str, Path] = {}
    for path in judged:
        for row in read_records(path, JudgedSample):
            samples[row.problem_id].append(row)
            origin.setdefault(row.problem_id, path)
    verdicts = {key: [row.correct for row in rows] for key, rows in samples.items()}
    right, wrong = all_right_or_wrong(verdicts)
    stage.counts.update(problems_all_correct=right, problems_all_wrong=wrong)
    demonstrations: dict[str, list[Demonstration]] = defaultdict(list)
    for demonstration in read_records(train, Demonstration):
        if demonstration.problem_id in samples:
            demonstrations[demonstration.problem_id].append(demonstration)
    problems, contradicting = [], 0
    for key in sorted(samples):
        rows = sorted(samples[key], key=lambda row: (row.sample, row.id))
        if key not in demonstrations:
            raise InputError(
                f"problem {key} has judged samples but no demonstration in {train}",
                origin[key],
                hint="give the demonstrations that the problems were sampled from",
            )
        problem = Candidates(key, rows[0].question)
        if options.teacher_positives:
            solutions = sorted(demonstrations[key], key=lambda row: (row.sample, row.id))
            problem.positives += [Response(row.id, row.solution, "teacher") for row in solutions]
        right_rows = [Response(row.id, row.text, "student") for row in rows if row.correct]
        problem.positives += right_rows if options.student_positives else []
        problem.negatives = [Response(row.id, row.text, "student") for row in rows if not row.correct]
        contradicting += problem.settle()
        problems.append(problem)
    if contradicting:
        stage.counts["contradicting_negatives"] = contradicting
    return verdicts, problems


def _pairs(kept: Sequence[Candidates], options: PreferenceOptions, seed: int, counts: dict[str, float]) -> Iterator[PreferencePair]:
    """All pairs, shuffled. Only indices are shuffled, so that the texts of millions of pairs are never in memory at once."""
    plan = [
        (index, positive, negative)
        for index, problem in enumerate(kept)
        for positive, negative in choose_pairs(
            len(problem.positives), len(problem.negatives), options.max_pairs_per_problem, seed, problem.problem_id
        )
    ]
    random.Random(row_id("pair order", seed)).shuffle(plan)
    seen: set[int] = set()
    for index, positive, negative in plan:
        problem = kept[index]
        pair = make_pair(problem, problem.positives[positive], problem.negatives[negative], options)
        if pair.rejected_cut:
            texts = hash((pair.problem_id, pair.chosen, pair.rejected))
            if texts in seen:
                counts["repeated_pairs"] += 1
                continue
            seen.add(texts)
            counts["cut_pairs"] += 1
        yield pair


def _count_pairs(pairs: Iterator[PreferencePair], counts: dict[str, float], stage: StageRun) -> Iterator[PreferencePair]:
    shown: dict[tuple[str, str], int] = defaultdict(int)
    for pair in pairs:
        counts["pairs"] += 1
        counts["synthetic_pairs"] += pair.rejected_from == "synthetic"
        kind = (pair.chosen_from, pair.rejected_from)
        if shown[kind] < 2:
            shown[kind] += 1
            stage.example("pair", pair, limit=8)
        yield pair


def _shuffled_labels(kept: Sequence[Candidates], options: PreferenceOptions, seed: int) -> list[LabelledResponse]:
    rows = [row for problem in kept for row in labelled_rows(problem, options)]
    random.Random(row_id("label order", seed)).shuffle(rows)
    return rows


def _count_labels(rows: Sequence[LabelledResponse], counts: dict[str, float]) -> Iterator[LabelledResponse]:
    for row in rows:
        counts["labelled"] += 1
        counts["desirable" if row.label else "undesirable"] += 1
        yield row
