"""Keeps benchmark problems out of the training rows: check, report, remove, or stop the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.contamination import checks
from components.contamination.options import ContaminationOptions
from components.contamination.texts import exact_form
from components.core.errors import EmptyOutputError, GateError, InputError
from components.core.records import ContaminationMatch, Demonstration, Problem, read_records, write_records
from components.core.stage import StageRun


def run(
    demonstrations: Sequence[Path],
    benchmarks: Path,
    corpus: Path,
    train: Path,
    matches: Path,
    options: ContaminationOptions,
    stage: StageRun,
) -> None:
    """Write the training rows that may be trained on, and the report of every match.

    The training rows are sorted by id, so that they do not depend on the number or order of shards.

    Args:
        demonstrations: JSON Lines files of ``Demonstration`` rows, one a shard.
        benchmarks: JSON Lines file of ``Problem`` rows.
        corpus: JSON Lines file of the ``Problem`` rows that the base model was pretrained on; may be empty.
        train: Where the training rows go.
        matches: Where the ``ContaminationMatch`` rows go; written before a gate can fail.
        options: Checks, actions and limits.
        stage: Receives counts per check and benchmark, drops by reason and examples.

    Raises:
        InputError: A file is missing or malformed, or there is no benchmark problem to check against.
        GateError: A check whose action is ``fail`` has a match, or ``max_matches`` is exceeded.
        EmptyOutputError: No shard brought a row, or every row was removed: without M1 nothing that follows has a meaning, and what the
            teacher answered is stored.
    """
    tests = list(read_records(benchmarks, Problem))
    if not tests:
        raise InputError("there is no benchmark problem to check against", benchmarks, hint="name at least one benchmark")
    questions = _distinct_problems(demonstrations)
    if not questions:
        raise EmptyOutputError(
            f"{stage.task}: none of {len(demonstrations)} shards brought a solution, so there is nothing to train on",
            "see what the solving tasks dropped, and why; the teacher's answers are stored, and a second start pays for none of them again",
        )
    ids, texts = list(questions), list(questions.values())
    total = len(tests)

    def progress(done: int) -> None:
        stage.progress(done, total, "benchmark problems")

    findings = checks.find(texts, [problem.question for problem in tests], options, progress)
    rows = checks.match_rows(findings, ids, texts, tests, options)
    corpus_rows = list(_corpus_matches(corpus, tests, options, stage))
    write_records(matches, rows + corpus_rows)
    stage.counts.update({"test_problems": total, "train_problems": len(ids), "matches": len(rows)})
    stage.counts.update(checks.counts(findings, tests, options))
    for row in rows + corpus_rows:
        stage.example("match", row)
    _gate(rows + corpus_rows, options, matches)
    removed = {ids[position]: check for position, check in checks.removals(findings, options).items()}
    kept = _kept_rows(demonstrations, removed, stage)
    stage.rows_kept = len(kept)
    stage.require_rows("training rows")
    write_records(train, [kept[identifier] for identifier in sorted(kept)])


def _distinct_problems(demonstrations: Sequence[Path]) -> dict[str, str]:
    """Problem ids to questions, sorted by id: several solutions of a problem must not fill its k candidates."""
    questions = {row.problem_id: row.question for path in demonstrations for row in read_records(path, Demonstration)}
    return dict(sorted(questions.items()))


def _kept_rows(demonstrations: Sequence[Path], removed: dict[str, str], stage: StageRun) -> dict[str, Demonstration]:
    kept: dict[str, Demonstration] = {}
    for path in demonstrations:
        for row in read_records(path, Demonstration):
            stage.rows_in += 1
            if row.id in kept:
                stage.drop("duplicate", row=row)
            elif row.problem_id in removed:
                stage.drop(f"contaminated_{removed[row.problem_id]}", row=row)
            else:
                kept[row.id] = row
    return kept


def _corpus_matches(corpus: Path, tests: Sequence[Problem], options: ContaminationOptions, stage: StageRun) -> Iterator[ContaminationMatch]:
    if options.corpus == "off":
        return
    pretraining = list(read_records(corpus, Problem))
    pairs = list(checks.equal_pairs((exact_form(row.question) for row in pretraining), [exact_form(problem.question) for problem in tests]))
    stage.counts["corpus_problems"] = len(pretraining)
    stage.counts["corpus_tests"] = len({test for test, _ in pairs})
    for test, position in pairs:
        yield ContaminationMatch(
            benchmark=tests[test].source,
            test_id=tests[test].id,
            train_id=pretraining[position].id,
            test_question=tests[test].question,
            train_question=pretraining[position].question,
            check="corpus",
            action=checks.DONE[options.corpus],
        )


def _gate(rows: Sequence[ContaminationMatch], options: ContaminationOptions, matches: Path) -> None:
    for check in (*checks.CHECKS, "corpus"):
        failed = [row for row in rows if row.check == check and row.action == "failed"]
        if failed:
            raise GateError(
                f"{_tests(failed)} benchmark problems match training problems by the check {check!r}, whose action is 'fail'; "
                f"the first: {failed[0].benchmark} {failed[0].test_id} {failed[0].test_question[:80]!r} and "
                f"{failed[0].train_id} {failed[0].train_question[:80]!r}",
                f"see all pairs in {matches}; take the source of these rows out, or choose another action for contamination.{check}",
            )
    matched = _tests([row for row in rows if row.check != "corpus"])
    if 0 <= options.max_matches < matched:
        raise GateError(
            f"{matched} benchmark problems have a match among the training problems, more than max_matches = {options.max_matches}",
            f"see all pairs in {matches}; take the source of these rows out, or raise contamination.max_matches",
        )


def _tests(rows: Sequence[ContaminationMatch]) -> int:
    return len({(row.benchmark, row.test_id) for row in rows})
