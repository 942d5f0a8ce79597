"""Whole stages with AutoGen's agents against servers that each differ in one way: the preflight says what to set, and then all works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest

from components.core.errors import TeacherError
from components.core.records import Demonstration, JudgedSample, Problem, Sample, problem_id, read_records, row_id, write_records
from components.core.stage import StageRun
from components.judging import stage as judging
from components.judging.options import JudgingOptions
from components.offline_teacher.background import BackgroundTeacher, start_background
from components.offline_teacher.options import Mode
from components.solving import stage as solving
from components.solving.options import SolvingOptions
from components.synthesis import stage as synthesis
from components.synthesis.options import SynthesisOptions
from components.teacher.options import TeacherOptions
from components.teacher.preflight import preflight
from components.word_problems.problems import generate_many

ESTIMATED = "does not tell the tokens of its replies"
CASES: list[tuple[tuple[Mode, ...], str, str]] = [
    ((), "", ""),
    (("rejects_n",), "", ""),
    (("ignores_seed",), "", ""),
    (("rejects_seed",), "set teacher.send_seed: false", ""),
    (("rejects_stream_options",), "", ""),
    (("no_usage",), "", ESTIMATED),
    (("single_user_message",), "", ""),
    (("stream_only",), "set teacher.stream: true", ""),
    (("always_streams",), "", ESTIMATED),
    (("reasoning",), "", ""),
    (("think_tags",), "", ""),
    (("content_parts",), "", ""),
    (("wants_max_completion_tokens",), "set teacher.reply_limit_name: max_completion_tokens", ""),
    (("no_models_list",), "", ""),
    (("stream_only", "reasoning"), "set teacher.stream: true", ""),
    (("always_streams", "think_tags"), "", ESTIMATED),
    (("stream_only", "content_parts", "no_usage"), "set teacher.stream: true", ESTIMATED),
    (("stream_only", "rejects_stream_options"), "set teacher.stream: true and set teacher.stream_usage: false", ESTIMATED),
    (
        ("rejects_seed", "wants_max_completion_tokens", "single_user_message", "no_models_list"),
        "set teacher.send_seed: false and set teacher.reply_limit_name: max_completion_tokens",
        "",
    ),
]
"""Modes, what the preflight asks for, and what it tells once that is set."""
SAMPLED: dict[str, Any] = {"model": "M1", "seed": 0, "temperature": 0.7, "top_p": 0.95, "tokens": 4, "finish": "stop"}


class Rows(NamedTuple):
    """What the stages have written."""

    problems: list[Problem]
    demonstrations: list[Demonstration]
    judged: list[JudgedSample]
    stages: list[StageRun]


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundTeacher]:
    with start_background() as teacher:
        yield teacher


@pytest.fixture(scope="module")
def expected(server: BackgroundTeacher, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What a server without any mode gives."""
    server.set_modes()
    return run_stages(tmp_path_factory.mktemp("plain"), options(server))


def options(server: BackgroundTeacher, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": server.url, "model": "offline-teacher", "max_retries": 0, **more})


def run_stages(folder: Path, teacher: TeacherOptions) -> Rows:
    """Write problems with the agents, solve them twice each, and judge a right and a wrong answer to each."""
    seeds = [
        Problem(
            id=problem_id(item.question), source="builtin", split="train", question=item.question, answer=str(item.answer), licence="CC0"
        )
        for item in generate_many(5, 3)
    ]
    folder.mkdir(exist_ok=True)
    write_records(folder / "seeds.jsonl", seeds)
    store = str(folder / "responses")
    stages = [StageRun(name) for name in ("synthesis", "solving", "judging")]
    problems, demonstrations, judged = folder / "problems.jsonl", folder / "demonstrations.jsonl", folder / "judged.jsonl"
    synthesis.run(folder / "seeds.jsonl", teacher, SynthesisOptions(check_solvable=True), store, 0, "0/1", problems, stages[0])
    solving.run(problems, teacher, SolvingOptions(n=2), store, demonstrations, stages[1])
    samples = [
        Sample(id=row_id(row.problem_id, index), problem_id=row.problem_id, question=row.question, sample=index, text=text, **SAMPLED)
        for row in read_records(demonstrations, Demonstration)
        for index, text in enumerate([f"#### {row.answer}", "I would say #### 7777"])
    ]
    write_records(folder / "samples.jsonl", samples)
    judging.run(folder / "samples.jsonl", demonstrations, judged, teacher, JudgingOptions(judge="always"), store, stages[2])
    return Rows(
        list(read_records(problems, Problem)),
        list(read_records(demonstrations, Demonstration)),
        list(read_records(judged, JudgedSample)),
        stages,
    )


def options_after_preflight(chosen: TeacherOptions, needs: str) -> TeacherOptions:
    """The options with the changes that the preflight asks for, which have to be these."""
    if not needs:
        asyncio.run(preflight(chosen))
        return chosen
    with pytest.raises(TeacherError, match=r"the run's requests would all be refused: .* HTTP 400") as caught:
        asyncio.run(preflight(chosen))
    assert caught.value.hint == needs
    changes = {name: msgspec.yaml.decode(value) for name, value in re.findall(r"set teacher\.(\w+): (\w+)", needs)}
    return msgspec.structs.replace(chosen, **changes)


def test_every_mode_is_tried() -> None:
    assert {mode for modes, _, _ in CASES for mode in modes} == set(get_args(Mode))


@pytest.mark.parametrize(("modes", "needs", "told"), CASES, ids=["+".join(case[0]) or "plain" for case in CASES])
def test_stages_work_with_every_kind_of_server(
    server: BackgroundTeacher,
    expected: Rows,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    modes: tuple[Mode, ...],
    needs: str,
    told: str,
) -> None:
    server.set_modes(*modes)
    chosen = options_after_preflight(options(server), needs)
    capsys.readouterr()
    asyncio.run(preflight(chosen))
    said = capsys.readouterr().out
    assert told in said
    assert len(said.splitlines()) == bool(told)

    before = server.stats()
    rows = run_stages(tmp_path, chosen)
    after = server.stats()
    assert after["faults"] == before["faults"]
    assert after["paid"] - before["paid"] == sum(stage.usage.requests for stage in rows.stages if stage.usage)
    for stage in rows.stages:
        assert stage.usage is not None
        assert stage.usage.failures == 0
        assert stage.usage.prompt_tokens > 50 * stage.usage.requests
        assert stage.usage.completion_tokens >= stage.usage.requests
    assert {row.method for row in rows.problems} == {"seed", "ask_me_anything", "suggester_editor"}
    assert {row.correct for row in rows.judged} == {True, False}
    if "rejects_seed" in modes:
        # The offline teacher's samples differ by their seed alone.
        assert rows.problems == expected.problems
    elif "ignores_seed" not in modes:
        assert rows[:3] == expected[:3]


def test_a_server_that_ignores_the_seed_is_asked_once_all_the_same(server: BackgroundTeacher, tmp_path: Path) -> None:
    server.set_modes("ignores_seed")
    first = run_stages(tmp_path, options(server))
    paid = server.stats()["paid"]
    assert run_stages(tmp_path, options(server))[:3] == first[:3]
    assert server.stats()["paid"] == paid
    assert run_stages(tmp_path / "elsewhere", options(server))[:3] != first[:3]


def test_streamed_or_whole_a_reply_is_the_same_reply(server: BackgroundTeacher, tmp_path: Path) -> None:
    server.set_modes("reasoning")
    whole = run_stages(tmp_path, options(server))
    paid = server.stats()["paid"]
    assert run_stages(tmp_path, options(server, stream=True))[:3] == whole[:3]
    assert server.stats()["paid"] == paid
    streamed = run_stages(tmp_path / "elsewhere", options(server, stream=True))
    assert streamed[:3] == whole[:3]
    assert [stage.usage for stage in streamed.stages] == [stage.usage for stage in whole.stages]
