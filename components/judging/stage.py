"""Judge every sampled response of a shard: rules first, the teacher where they cannot decide."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import InputError
from components.core.records import Demonstration, JudgedSample, Sample, read_records, write_records
from components.core.stage import StageRun
from components.grading.answers import Verdict, is_correct
from components.judging.golden import golden_rows
from components.judging.measure import Measure, measure, measure_verdicts
from components.judging.options import JudgingOptions
from components.teacher.options import TeacherOptions

if TYPE_CHECKING:
    from components.judging.verdicts import Ruling


def run(
    samples: Path, train: Path, judged: Path, teacher: TeacherOptions, options: JudgingOptions, responses: str, stage: StageRun
) -> None:
    """Write one ``JudgedSample`` per sample, in the order of the samples; without those that a spent budget left undecided.

    The teacher is not contacted when no response needs it. A shard to which no practice problem fell hands on an empty file.

    Args:
        samples: ``Sample`` rows of this shard.
        train: ``Demonstration`` rows; the answer of a problem's demonstration is the reference.
        judged: Where the ``JudgedSample`` rows go.
        teacher: The judge's endpoint.
        options: Who decides.
        responses: Address of the response store.
        stage: Receives counts, usage and examples.

    Raises:
        InputError: A sample belongs to a problem without a demonstration.
        BudgetError: The budget is spent; what was decided is in the output all the same.
        TeacherError: The teacher is needed and fails for good.
    """
    rows = list(read_records(samples, Sample))
    references = _references(train, samples, rows)
    stage.rows_in = stage.rows_kept = len(rows)
    if not rows:
        write_records(judged, rows)
        return
    verdicts: list[Verdict] = []
    for row in rows:
        reference = references[row.problem_id]
        verdicts.append(is_correct(reference.answer, row.text, reference.alternatives, options.time_limit_s))
        if options.judge != "always":
            stage.progress(len(verdicts), len(rows), "responses")
    golden = golden_rows(options.golden)
    _report_measure("golden_rule", measure(golden, options.time_limit_s), stage)
    asked = [index for index, verdict in enumerate(verdicts) if options.judge == "always" or verdict.correct is None]
    if options.judge == "rule_only":
        asked = []
    rulings: dict[int, Ruling] = {}
    left: set[int] = set()
    stopped = None
    if asked or options.measure_teacher:
        # Loading the client takes longer than judging a thousand responses by rule.
        from components.judging.verdicts import Question, ask_all

        questions = [Question(rows[index].question, references[rows[index].problem_id].answer, rows[index].text) for index in asked]
        measured = [Question(row.question, row.reference, row.response) for row in golden] if options.measure_teacher else []
        given, stopped = asyncio.run(ask_all([*questions, *measured], teacher, responses, options, stage))
        rulings = {index: ruling for index, ruling in zip(asked, given, strict=False) if ruling is not None}
        left = set(asked) - set(rulings)
        on_golden = [ruling.correct for ruling in given[len(questions) :] if ruling is not None]
        if measured and len(on_golden) == len(golden):
            _report_measure("golden_judge", measure_verdicts(golden, on_golden), stage)
    results = [
        _judged(row, references[row.problem_id], verdict, rulings.get(index))
        for index, (row, verdict) in enumerate(zip(rows, verdicts, strict=True))
        if index not in left
    ]
    stage.rows_kept = write_records(judged, results)
    _count(results, verdicts, rulings, stage)
    if stopped is not None:
        raise stopped


def _references(train: Path, samples: Path, rows: Sequence[Sample]) -> dict[str, Demonstration]:
    """The first demonstration of every sampled problem."""
    wanted = {row.problem_id for row in rows}
    found: dict[str, Demonstration] = {}
    for demonstration in read_records(train, Demonstration):
        known = found.get(demonstration.problem_id)
        if demonstration.problem_id in wanted and (known is None or demonstration.sample < known.sample):
            found[demonstration.problem_id] = demonstration
    for number, row in enumerate(rows, start=1):
        if row.problem_id not in found:
            raise InputError(
                f"problem {row.problem_id} has no demonstration in {train}, so there is no reference answer",
                samples,
                number,
                "give the demonstrations that the problems were sampled from",
            )
    return found


def _judged(row: Sample, reference: Demonstration, verdict: Verdict, ruling: Ruling | None) -> JudgedSample:
    correct, answer, decided_by, reason = bool(verdict.correct), verdict.answer, "rule", ""
    if ruling is None and verdict.correct is None:
        reason = "undecided by the rules"
    if ruling is not None:
        decided_by = "judge" if ruling.correct is not None else "unparsable"
        correct, answer, reason = bool(ruling.correct), ruling.answer or answer, ruling.reason
    return JudgedSample(
        id=row.id,
        problem_id=row.problem_id,
        question=row.question,
        model=row.model,
        sample=row.sample,
        text=row.text,
        tokens=row.tokens,
        reference=reference.answer,
        answer=answer,
        correct=correct,
        decided_by=decided_by,
        reason=reason,
    )


def _count(results: Sequence[JudgedSample], verdicts: Sequence[Verdict], rulings: dict[int, Ruling], stage: StageRun) -> None:
    correct = sum(row.correct for row in results)
    stage.counts.update(
        correct=correct,
        incorrect=len(results) - correct,
        pass_ratio=round(correct / max(len(results), 1), 4),
        by_rule=sum(row.decided_by == "rule" for row in results),
        by_judge=sum(row.decided_by == "judge" for row in results),
        unparsable=sum(row.decided_by == "unparsable" for row in results),
        unreadable_replies=sum(ruling.unreadable for ruling in rulings.values()),
        undecided_by_rule=sum(verdict.correct is None for verdict in verdicts),
    )
    both = [(verdicts[index].correct, ruling.correct) for index, ruling in rulings.items() if ruling.correct is not None]
    compared = [rule == judge for rule, judge in both if rule is not None]
    if compared:
        stage.counts["judge_agrees_with_rule"] = round(sum(compared) / len(compared), 4)
    for row in results:
        stage.example("right" if row.correct else "wrong", row)


def _report_measure(name: str, found: Measure, stage: StageRun) -> None:
    stage.counts.update(
        {
            f"{name}_n": found.n,
            f"{name}_precision": round(found.precision, 4),
            f"{name}_recall": round(found.recall, 4),
            f"{name}_undecided": round(found.undecided, 4),
        }
    )
