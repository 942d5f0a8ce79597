"""``tutorloop run --dry-run``: an estimate from a small real sample, of which the run pays nothing again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from components.core.errors import TeacherError
from components.core.records import Problem, read_records
from components.core.stage import StageRun
from components.offline_teacher.background import BackgroundTeacher, start_background
from components.offline_teacher.options import OfflineTeacherOptions
from components.seeds.options import SeedsOptions
from components.seeds.stage import collect_seeds
from components.solving.options import SolvingOptions
from components.solving.stage import run as solve
from components.synthesis.options import SynthesisOptions
from components.synthesis.stage import run as synthesize
from components.teacher.client import Reply, Teacher
from components.teacher.options import TeacherOptions
from pipelines.cli.main import cli
from pipelines.forecast.ranges import Progress
from pipelines.methods.orca_math.sample import Plan, Sample, take
from pipelines.parameters import profile as parameters

PROFILE = """
seeds: {sources: [{adapter: builtin, count: 80, max_steps: 2}]}
benchmarks: {sources: [{adapter: builtin, split: test, count: 8}]}
synthesis: {ask_me_anything_seeds: 40, suggester_editor_seeds: 30, check_solvable: true}
solving: {n: 2}
judging: {judge: always}
sampling: {n: 2}
teacher:
  base_url: URL
  model: maker/small-v1.5
  prices: {maker/small-v1.5: {prompt: 1, completion: 3}}
  concurrency: 8
"""
SOME = 8


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundTeacher]:
    # The command sets it for itself; the fixture's end puts back what was there.
    monkeypatch.setenv("TUTORLOOP_RUN", "test")
    with start_background() as teacher:
        yield teacher


@pytest.fixture
def profile(tmp_path: Path, offline: BackgroundTeacher) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.replace("URL", offline.url))
    return path


def dry_run(profile: Path, *more: str) -> Result:
    command = ["run", "--dry-run", "--profile", str(profile), "--home", str(profile.parent / "home"), "--sample", str(SOME), *more]
    return CliRunner().invoke(cli, command)


def figures(profile: Path, *more: str) -> dict[str, Any]:
    done = dry_run(profile, "--json", *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_data_stages(profile: Path, home: str = "home") -> dict[str, int]:
    """The run's own stages on the store of a home; problems, and what was paid."""
    options = parameters.load(str(profile))
    folder, store = profile.parent, str(profile.parent / home / "shared" / "responses")
    endpoint = options.section(TeacherOptions, "teacher")
    collect_seeds(folder / "seeds.jsonl", options.section(SeedsOptions, "seeds"), options.seed, StageRun("seeds"))
    synthesis, solving = StageRun("synthesis"), StageRun("solving")
    chosen = options.section(SynthesisOptions, "synthesis")
    synthesize(folder / "seeds.jsonl", endpoint, chosen, store, 0, "0/1", folder / "problems.jsonl", synthesis)
    how = options.section(SolvingOptions, "solving")
    solve(folder / "problems.jsonl", endpoint, how, store, folder / "demonstrations.jsonl", solving)
    problems = len(list(read_records(folder / "problems.jsonl", Problem)))
    return {"problems": problems, "paid": sum(stage.usage.requests for stage in (synthesis, solving) if stage.usage)}


def test_the_run_pays_for_nothing_again_and_comes_to_what_was_said(profile: Path, offline: BackgroundTeacher) -> None:
    found = figures(profile)
    home = profile.parent / "home"
    assert [path.name for path in home.iterdir()] == ["shared"] and [path.name for path in (home / "shared").iterdir()] == ["responses"]
    before = offline.stats()
    assert found["sample"]["requests"] == before["paid"] - 1, "the preflight asks once"
    assert found["units"] == {"ask": SOME, "rewrite": SOME, "seed": SOME, "verdict": SOME}
    assert found["seeds"] == 80 and found["remarks"]
    verdicts = before["paid_by_task"]["judge"]

    done = run_data_stages(profile)
    after = offline.stats()
    assert after["duplicates"] == 0
    assert done["paid"] == after["paid"] - before["paid"]
    assert run_data_stages(profile, "empty")["paid"] == after["paid"] - 1 - verdicts, "the sample asked for what no run asks for"
    after |= {f"{name}_alone": offline.stats()[name] for name in ("paid", "prompt_tokens", "completion_tokens")}
    for name, value in (
        ("problems", done["problems"]),
        ("requests", after["paid"] - 1 - verdicts),
        ("tokens", after["prompt_tokens"] + after["completion_tokens"]),
    ):
        stages = [found["stages"][stage] for stage in ("synthesis", "solving")]
        parts = {"problems": [found["problems"]], "requests": [stage["requests"] for stage in stages]}.get(
            name, [stage[field] for stage in stages for field in ("prompt_tokens", "reply_tokens")]
        )
        estimated = sum(part["value"] for part in parts)
        assert estimated == pytest.approx(value, rel=0.15), name
        assert sum(part["low"] for part in parts) <= estimated <= sum(part["high"] for part in parts)
    assert found["stages"]["judging"]["requests"]["value"] == pytest.approx(2 * 2 * found["problems"]["value"])

    again = figures(profile)
    probed = offline.stats()
    assert again["sample"]["requests"] == 0 and probed["paid"] == after["paid_alone"] + 1
    sampled = {name: before[name] - (probed[name] - after[f"{name}_alone"]) for name in ("prompt_tokens", "completion_tokens")}
    assert found["sample"]["usd"] == pytest.approx((sampled["prompt_tokens"] + 3 * sampled["completion_tokens"]) / 1e6, abs=1e-6)
    assert [again["stages"][stage]["stored_ratio"] for stage in ("synthesis", "solving")] == [1, 1]
    assert [again["stages"][stage]["seconds"] for stage in ("synthesis", "solving")] == [0, 0]


def test_what_is_in_the_store_is_seen_and_taken_off(profile: Path, offline: BackgroundTeacher) -> None:
    empty = figures(profile, "--set", "teacher.max_tokens=1000000", "--sample", "4")
    sampled = figures(profile, "--set", "teacher.max_tokens=1000000", "--sample", "4")
    share = sampled["stages"]["synthesis"]["stored_ratio"]
    assert empty["stages"]["synthesis"]["stored_ratio"] == 0
    assert share == pytest.approx(8 / 70, rel=0.3)
    assert sampled["limits"][0]["needed"]["value"] < empty["limits"][0]["needed"]["value"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["teacher.max_usd=0.008", "teacher.concurrency=2"], "it was not taken whole: the teacher's budget is spent"),
        (["teacher.max_usd=0.05"], "teacher.max_usd = 0.05: .* EXCEEDED"),
        (["teacher.max_tokens_per_day=20000"], r"teacher.max_tokens_per_day = 20,000: .* EXCEEDED"),
        (
            ["judge_teacher.base_url=URL", "judge_teacher.model=j", "judge_teacher.max_tokens=1000"],
            r"judge_teacher.max_tokens = 1,000: .* EXCEEDED",
        ),
        (["teacher.max_usd=50"], r"teacher.max_usd = 50: the run needs [\d.]+ \([\d.]+-[\d.]+\) beyond what is in the store$"),
        (["judging.judge=rule_only"], r"(?m)^judging +0 "),
    ],
)
def test_limits_are_respected_and_compared(profile: Path, offline: BackgroundTeacher, settings: list[str], told: str) -> None:
    changed = [part for setting in settings for part in ("--set", setting.replace("URL", offline.url))]
    done = dry_run(profile, "--sample", "4", *changed)
    assert done.exit_code == 0, done.output
    assert re.search(told, done.stdout, re.MULTILINE), done.stdout
    stats = offline.stats()
    if "0.008" in settings[0]:
        # What the preflight has cost is beside the budget.
        assert 0 < (stats["prompt_tokens"] + 3 * stats["completion_tokens"]) / 1e6 <= 0.0082


def test_a_limit_below_the_smallest_sample_is_an_error(profile: Path, offline: BackgroundTeacher) -> None:
    done = dry_run(profile, "--set", "teacher.max_tokens=1")
    assert done.exit_code != 0 and "the teacher's budget is spent" in str(done.exception)
    assert offline.stats()["paid"] == 1, "the preflight asks once"


def test_a_second_sample_is_not_taken_for_the_state_of_the_whole_run(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.methods.orca_math.sample.LOOKED_UP", 10)
    figures(profile, "--set", "seeds.sources=[{adapter: builtin, count: 400, max_steps: 2}]")
    again = figures(profile, "--set", "seeds.sources=[{adapter: builtin, count: 400, max_steps: 2}]")
    assert again["sample"]["requests"] == 0
    assert 0 <= again["stages"]["solving"]["stored_ratio"] < 0.5
    assert 0 <= again["stages"]["synthesis"]["stored_ratio"] < 0.7


def test_a_sample_is_not_counted_against_the_day_and_against_the_run(profile: Path) -> None:
    found = figures(profile, "--sample", "4", "--set", "judging.judge=rule_only", "--set", "teacher.max_usd_per_day=50")
    maximum = found["limits"][0]["needed"]["high"] * 1.0001
    home = profile.parent / "another"
    [limit] = figures(
        profile, "--sample", "4", "--home", str(home), "--set", "judging.judge=rule_only", "--set", f"teacher.max_usd_per_day={maximum:.6f}"
    )["limits"]
    assert limit["verdict"] == "within"


def test_an_endpoint_that_refuses_the_form_of_requests_is_told_before_any_is_sent(profile: Path, offline: BackgroundTeacher) -> None:
    with start_background(OfflineTeacherOptions(modes=("stream_only",))) as judge:
        done = dry_run(profile, "--set", f"judge_teacher.base_url={judge.url}", "--set", "judge_teacher.model=j")
        assert done.exit_code != 0 and isinstance(done.exception, TeacherError)
        assert done.exception.hint == "set teacher.stream: true"
    assert offline.stats()["paid"] == 1
    offline.set_modes("no_usage")
    assert figures(profile, "--sample", "2")["units"], "what the preflight prints is not in the JSON"


def test_the_time_of_a_request_is_the_endpoints_alone(profile: Path, offline: BackgroundTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0
    chat = Teacher.chat

    async def counted(client: Teacher, *messages: Any, **more: Any) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await chat(client, *messages, **more)
        finally:
            under_way -= 1

    monkeypatch.setattr(Teacher, "chat", counted)
    offline.set_faults(latency_s=0.2)
    slow = figures(profile, "--sample", "2", "--set", "teacher.concurrency=1")["stages"]["solving"]
    assert slow["seconds"] >= slow["requests"]["value"] * 0.2
    assert most == 1, "none waits for others before it is sent"


def every_request_took(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples whose times do not depend on the machine."""

    def take_evenly(plan: Plan, count: int, progress: Progress | None = None) -> Sample:
        sample = take(plan, count, progress)
        for unit in sample.units:
            unit.requests = [request._replace(seconds=seconds) for request in unit.requests]
        return replace(sample, cpu_s=seconds / 100)

    monkeypatch.setattr("pipelines.methods.orca_math.dry_run.take", take_evenly)


def test_time_follows_from_latency_concurrency_and_rate_limits(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every_request_took(0.2, monkeypatch)
    slow = figures(profile, "--sample", "2", "--set", "teacher.concurrency=1")["stages"]["solving"]
    assert slow["seconds"] == pytest.approx(slow["requests"]["value"] * 0.2) and slow["bound"] == "0.20 s a request, 1 at once"
    every_request_took(0.02, monkeypatch)
    limited = figures(profile, "--sample", "3", "--set", "teacher.requests_per_minute=60000")
    for name, stage in limited["stages"].items():
        assert stage["bound"] != "requests_per_minute", name
    limited = figures(profile, "--sample", "4", "--set", "teacher.tokens_per_minute=600000")["stages"]["solving"]
    tokens = limited["prompt_tokens"]["value"] + limited["reply_tokens"]["value"]
    assert limited["bound"] == "tokens_per_minute"
    assert limited["seconds"] == pytest.approx(tokens * (1 - limited["stored_ratio"]) / 10_000, rel=0.01)
    # All shards share the limit.
    settings = ("--set", "teacher.tokens_per_minute=300000", "--set", "data_shards=4")
    four = figures(profile, "--sample", "5", *settings)["stages"]["solving"]
    tokens = four["prompt_tokens"]["value"] + four["reply_tokens"]["value"]
    assert four["bound"] == "tokens_per_minute"
    assert four["seconds"] == pytest.approx(tokens * (1 - four["stored_ratio"]) / 5_000, rel=0.01)


def test_the_offline_teacher_is_started_when_the_profile_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_RUN", "test")
    monkeypatch.setenv("TUTORLOOP_OFFLINE_TEACHER_URL", "")
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.replace("URL", "offline"))
    done = dry_run(path, "--sample", "2")
    assert done.exit_code == 0, done.output
    assert "training problems of 80 seeds" in done.stdout and "::progress" not in done.stdout
    assert "sample: 6/6 units" in done.stderr and "sample: 6/6 units" not in done.stdout


def test_a_limit_within_the_range_may_be_exceeded(profile: Path) -> None:
    figures(profile, "--sample", "4")
    # The sample is in the store now, so that nothing changes any more from one dry run to the next.
    needed = figures(profile, "--sample", "4", "--set", "teacher.max_usd=50")["limits"][0]["needed"]
    for maximum, verdict in (((needed["value"] + needed["high"]) / 2, "may be exceeded"), (needed["high"] * 1.01, "within")):
        [limit] = figures(profile, "--sample", "4", "--set", f"teacher.max_usd={maximum:.6f}")["limits"]
        assert limit["verdict"] == verdict and limit["needed"] == needed
    # The same sum is too much for a day on which the samples have been paid already.
    [limit] = figures(profile, "--sample", "4", "--set", f"teacher.max_usd_per_day={needed['high'] * 1.0001:.6f}")["limits"]
    assert limit["verdict"] != "within" and limit["needed"] == needed
