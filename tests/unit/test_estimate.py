"""What a run will ask for, said before it is spent."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from components.core.errors import ParameterError
from components.core.records import StageRecord, Usage, write_records
from pipelines import parameters
from pipelines.cli import cli
from pipelines.methods.orca_math.estimate import ESTIMATOR, OrcaMathAssumptions, estimate


def test_the_papers_profile_comes_to_the_papers_numbers() -> None:
    found = estimate(parameters.load("orca_math_7b"), OrcaMathAssumptions())
    # The paper's 200,035 hold 6,216 problems of a set that our profile leaves out.
    assert found.problems == pytest.approx(200_035 - 6_216, rel=0.005)
    rules_only = estimate(parameters.load("orca_math_7b", ["judging.judge=rule_only"]), OrcaMathAssumptions())
    always = estimate(parameters.load("orca_math_7b", ["judging.judge=always"]), OrcaMathAssumptions())
    # Some 800,000 responses a round, each judged once.
    assert always.teacher["judging"].requests == pytest.approx(2 * 4 * found.problems)
    assert rules_only.teacher["judging"].requests == 0 < found.teacher["judging"].requests < always.teacher["judging"].requests
    assert rules_only.usd < found.usd < always.usd


@pytest.mark.parametrize(
    ("changed", "assumed", "larger"),
    [
        (["solving.n=2"], {}, "teacher"),
        (["synthesis.check_solvable=true"], {}, "teacher"),
        ([], {"solving": {"reply": 500}}, "teacher"),
        (
            ["teacher.prices={gpt-4-turbo: {prompt: 20, completion: 30}}", "judge_teacher.model=x", "judge_teacher.base_url=http://x/v1"],
            {},
            "teacher",
        ),
        (["sft.epochs=3"], {}, "gpu"),
        (["sampling.n=8"], {}, "gpu"),
        ([], {"parameters": 13e9}, "gpu"),
        ([], {"utilisation": 0.2}, "gpu"),
        (["rounds=3"], {}, "gigabytes"),
    ],
)
def test_more_work_is_more_of_what_it_takes(changed: list[str], assumed: dict[str, object], larger: str) -> None:
    before = estimate(parameters.load("orca_math_7b"), OrcaMathAssumptions())
    after = estimate(parameters.load("orca_math_7b", changed), ESTIMATOR.assume(assumed))
    totals = {
        "teacher": (before.usd, after.usd),
        "gpu": (sum(before.gpu_hours.values()), sum(after.gpu_hours.values())),
        "gigabytes": (sum(before.gigabytes.values()), sum(after.gigabytes.values())),
    }
    assert totals[larger][0] < totals[larger][1]


def test_limits_of_a_profile_count() -> None:
    found = estimate(parameters.load("tiny"), ESTIMATOR.assume({"seeds": 1500}))
    assert found.teacher["synthesis"].requests == 300 + 150 * 2 * 2
    assert found.usd == 0


def record(stage: str, usage: Usage | None) -> StageRecord:
    return StageRecord(
        stage=stage, task=stage, shard="0/1", started_at="2026-01-01T00:00:00+00:00", seconds=1, rows_in=1, rows_kept=1, usage=usage
    )


def test_a_small_run_measures_the_length_of_requests(tmp_path: Path) -> None:
    ledger = [
        record("solving", Usage(requests=3, prompt_tokens=300, completion_tokens=600)),
        record("solving", Usage(requests=1, prompt_tokens=140, completion_tokens=200)),
        record("judging", Usage(cache_hits=5)),
        record("sft", None),
    ]
    assert ESTIMATOR.measured(ledger) == {"solving": {"prompt": 110.0, "reply": 200.0}}
    write_records(tmp_path / "ledger.jsonl", ledger)
    command = ["estimate", "--profile", "orca_math_7b", "--assume", "seeds=100", "--like", str(tmp_path)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    solving = next(line.split() for line in done.output.splitlines() if line.startswith("solving"))
    requests, prompt = (float(cell.replace(",", "")) for cell in solving[1:3])
    assert prompt == pytest.approx(110 * requests, rel=0.01)
    done = CliRunner().invoke(cli, [*command, "--assume", "solving.reply=1"])
    assert done.exit_code == 0, done.output


def test_a_wrong_assumption_is_named() -> None:
    for values in ({"seed": 3}, {"undecided": 2}, {"solving": {"words": 3}}):
        with pytest.raises(ParameterError, match="assume"):
            ESTIMATOR.assume(values)
