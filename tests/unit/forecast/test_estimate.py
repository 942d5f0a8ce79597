"""What a run will ask for, said before it is spent."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from components.core.errors import ParameterError
from components.core.records import StageRecord, Usage, write_records
from pipelines.cli.main import cli
from pipelines.methods.orca_math.estimate import ESTIMATOR, OrcaMathAssumptions, estimate
from pipelines.parameters import profile as parameters


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


def test_gpu_hours_of_trainings_are_those_of_their_tokens() -> None:
    """1,000 problems at 100 + 200 tokens, one A-something of 100 teraflops at half its peak, 10^9 parameters."""
    assumed = ESTIMATOR.assume(
        {
            "seeds": 1000,
            "problem_tokens": 100,
            "response_tokens": 200,
            "parameters": 1e9,
            "gpu_teraflops": 100,
            "utilisation": 0.5,
            "tokens_per_second": 1000,
            "benchmark_problems": 300,
        }
    )
    changed = ["synthesis.ask_me_anything=false", "synthesis.suggester_editor=false", "solving.n=1", "sft.epochs=2", "rounds=2"]
    changed += ["sampling.n=4", "sampling.problems_per_round=0", "preference_tuning.method=kto", "preference_tuning.epochs=1"]
    changed += ["evaluation.samples_per_problem=3"]
    found = estimate(parameters.load("orca_math_7b", changed), assumed)
    assert found.problems == 1000
    hour_of_one_token = 1e9 / (100e12 * 0.5 * 3600)
    assert found.gpu_hours["sft"] == pytest.approx(1000 * 2 * 300 * 8 * hour_of_one_token)
    # Of each problem the solution and four responses, in two rounds. The reference scores them all. The control learns from half of them.
    rows = 1000 * 5 * 2
    assert found.gpu_hours["preference_tuning"] == pytest.approx(rows * 300 * (10 + 8 / 2) * hour_of_one_token)
    assert found.gpu_hours["sampling"] == pytest.approx(1000 * 4 * 2 * 200 / 1000 / 3600)
    # M0, M1, two models of each round and the last control.
    assert found.gpu_hours["evaluation"] == pytest.approx(7 * 300 * 4 * 200 / 1000 / 3600)


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
