"""Synthesis against the offline teacher and against scripted ones: what is kept, what is dropped and why, and never asked twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import BudgetError, EmptyOutputError, TeacherError
from components.core.records import Problem, problem_id, read_records, write_records
from components.core.stage import StageRun
from components.offline_teacher.background import BackgroundTeacher, start_background
from components.synthesis.options import SynthesisOptions
from components.synthesis.stage import run
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt
from components.word_problems.problems import generate_many
from tests.support.scripted_teacher import Answer, Body, completion, scripted_teacher


@pytest.fixture
def offline() -> Iterator[BackgroundTeacher]:
    with start_background() as teacher:
        yield teacher


def seed_row(question: str, answer: str | None = "1", **more: Any) -> Problem:
    return Problem(
        **{
            "id": problem_id(question),
            "source": "builtin",
            "split": "train",
            "question": question,
            "answer": answer,
            "licence": "CC0",
            **more,
        }
    )


def seeds_file(folder: Path, count: int = 12) -> Path:
    rows = [seed_row(item.question, str(item.answer)) for item in generate_many(5, count)]
    write_records(folder / "seeds.jsonl", rows)
    return folder / "seeds.jsonl"


def teacher_options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": url, "model": "m", "backoff_s": 0.01, "max_backoff_s": 0.05, **more})


def synthesize(
    seeds: Path, teacher: TeacherOptions, shard: str = "0/1", seed: int = 0, store: str = "responses", **options: Any
) -> tuple[list[Problem], StageRun]:
    stage = StageRun("synthesis", shard=shard)
    target = seeds.with_name(f"problems-{shard.replace('/', '-')}.jsonl")
    run(seeds, teacher, SynthesisOptions(**options), str(seeds.with_name(store)), seed, shard, target, stage)
    return list(read_records(target, Problem)), stage


def test_seeds_and_new_problems_with_their_lineage(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path)
    rows, stage = synthesize(seeds, teacher_options(offline.url))
    assert rows[:12] == list(read_records(seeds, Problem))
    new = rows[12:]
    ids = [row.id for row in rows]
    assert len(set(ids)) == len(ids)
    by_id = {row.id: row for row in rows}
    versions = {name: load_prompt(name).version for name in ("ask_me_anything", "edit")}
    for row in new:
        assert row.id == problem_id(row.question)
        assert (row.maker, row.source, row.split, row.licence, row.answer) == ("m", "builtin", "train", "CC0", None)
        (parent,) = row.parents
        if row.method == "ask_me_anything":
            assert (row.round, row.prompt, by_id[parent].method) == (0, versions["ask_me_anything"], "seed")
        else:
            assert (row.method, row.prompt) == ("suggester_editor", versions["edit"])
            assert row.round in (1, 2)
    seconds = [row for row in new if row.round == 2]
    assert seconds
    assert {row.method for row in new} == {"ask_me_anything", "suggester_editor"}
    assert stage.rows_in == 12
    assert stage.rows_kept == len(rows)
    assert stage.counts["new_problems"] == len(new)
    assert stage.counts["suggester_editor_round_2"] == len(seconds)
    assert stage.usage is not None
    assert stage.usage.requests == offline.stats()["paid"]
    assert set(stage.prompts) == {"ask_me_anything", "suggest", "edit", "solvable", "solve"}
    assert {"seed", "problem", "suggestion"} <= set(stage.examples)


def test_the_output_does_not_depend_on_concurrency_or_the_order_of_replies(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path, 8)
    one, _ = synthesize(seeds, teacher_options(offline.url, concurrency=1), store="a")
    offline.set_faults(latency_s=0.02, latency_sigma=1.5)
    many, _ = synthesize(seeds, teacher_options(offline.url, concurrency=32), store="b")
    assert one == many


def test_faults_of_the_endpoint_change_nothing(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path, 6)
    calm, _ = synthesize(seeds, teacher_options(offline.url), store="a")
    offline.set_faults(http_500_rate=0.15, http_429_rate=0.1, garbage_json_rate=0.1, truncated_rate=0.1, retry_after_s=0.01)
    stormy, stage = synthesize(seeds, teacher_options(offline.url, max_retries=20), store="b")
    assert calm == stormy
    assert stage.usage is not None
    assert stage.usage.retries > 5
    assert "teacher_failed" not in stage.dropped


def test_sloppy_replies_bring_the_same_questions(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path, 20)
    neat, _ = synthesize(seeds, teacher_options(offline.url), store="a", suggester_editor=False)
    offline.set_faults(sloppy_rate=1.0)
    sloppy, _ = synthesize(seeds, teacher_options(offline.url), store="b", suggester_editor=False)
    assert [row.id for row in neat] == [row.id for row in sloppy]


def test_shards_together_make_what_one_makes(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path)
    whole, _ = synthesize(seeds, teacher_options(offline.url), suggester_editor_seeds=5)
    paid = offline.stats()["paid"]
    parts = [synthesize(seeds, teacher_options(offline.url), f"{index}/3", suggester_editor_seeds=5)[0] for index in range(3)]
    assert {row.id for part in parts for row in part} == {row.id for row in whole}
    assert sum(row.method == "seed" for part in parts for row in part) == 12
    assert offline.stats()["paid"] == paid


def test_an_empty_shard_is_no_error(tmp_path: Path, offline: BackgroundTeacher) -> None:
    rows, stage = synthesize(seeds_file(tmp_path, 1), teacher_options(offline.url), "0/97")
    assert (rows, stage.rows_in) == ([], 0)


def test_the_choice_of_rewritten_seeds_follows_the_seed(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path)

    def parents(seed: int) -> set[str]:
        rows, _ = synthesize(seeds, teacher_options(offline.url), seed=seed, ask_me_anything=False, suggester_editor_seeds=3, rounds=1)
        return {row.parents[0] for row in rows if row.method != "seed"}

    assert parents(1) == parents(1)
    assert parents(1) != parents(2)
    assert len(parents(1)) <= 3
    assert offline.stats()["paid_by_task"]["edit"] <= 6


def test_seeds_without_an_answer_are_only_rewritten(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path, 4)
    rows = list(read_records(seeds, Problem))
    write_records(seeds, [*rows[:2], *(seed_row(row.question, None) for row in rows[2:])])
    _, stage = synthesize(seeds, teacher_options(offline.url))
    assert stage.counts["seeds_without_answer"] == 2
    assert offline.stats()["paid_by_task"]["ask_me_anything"] == 2
    assert offline.stats()["paid_by_task"]["suggest"] > 4


QUESTION = "Tom has 3 apples and buys 4 more. How many apples has he now?"


def scripted(
    folder: Path, replies: dict[str, Any], seeds: list[Problem] | None = None, **options: Any
) -> tuple[list[Problem], StageRun, list[Body]]:
    """Run with a teacher that answers each task with a text, or one text after another from a list."""

    def script(body: Body) -> str | Answer:
        reply = replies[body["messages"][0]["content"].splitlines()[0].removeprefix("Task: ")]
        if isinstance(reply, list):
            reply = reply.pop(0)
        return reply  # type: ignore[no-any-return]

    path = folder / "seeds.jsonl"
    write_records(path, seeds or [seed_row(QUESTION, "7")])
    with scripted_teacher(script) as server:
        rows, stage = synthesize(path, teacher_options(server.url, concurrency=1), **options)
        return [row for row in rows if row.method != "seed"], stage, server.requests


HARDER = "Problem: Tom has 3 apples, buys 4 more and eats 2. How many apples has he now?"
HARDEST = "Problem: Tom has 3 apples, buys 4 more, eats 2 and loses 1. How many apples has he now?"
ASKED = "Target: x\nQuestion: Tom has some apples and buys 4 more. Now he has 7. How many had he at first?"


@pytest.mark.parametrize(
    ("replies", "options", "kept", "dropped"),
    [
        ({"edit": [HARDER, HARDEST]}, {}, [1, 2], {}),
        ({"edit": [HARDER, HARDER]}, {}, [1], {"duplicate": 1}),
        ({"edit": [f"Problem: {QUESTION}"]}, {}, [], {"duplicate": 1}),
        ({"edit": ["I cannot do that."]}, {}, [], {"unparsable_reply": 1}),
        ({"edit": ["Problem: What now?"]}, {}, [], {"empty": 1}),
        ({"edit": [HARDER, "Problem: Tom has 3 apples. How many? And why?"]}, {}, [1], {"several_questions": 1}),
        ({"edit": [HARDER], "solve": "x" * 1801}, {}, [], {"answer_too_long": 1}),
        ({"edit": [HARDER, HARDEST], "solve": "x" * 1800}, {}, [1, 2], {}),
        ({"edit": [HARDER, HARDEST], "solve": ["short", "x" * 301]}, {"max_answer_chars": 300}, [1], {"answer_too_long": 1}),
        ({"edit": [HARDER], "solve": Answer(body=completion("cut off", "length"))}, {}, [], {"answer_too_long": 1}),
        ({"edit": [HARDER, HARDEST], "solvable": ["Solvable: yes", "Solvable: no"]}, {"check_solvable": True}, [1], {"not_solvable": 1}),
        ({"edit": [HARDER], "solvable": "Perhaps."}, {"check_solvable": True}, [], {"unparsable_reply": 1}),
        ({"edit": [HARDER], "solve": Answer(400)}, {}, [], {"teacher_failed": 1}),
        ({"edit": Answer(400)}, {}, [], {"teacher_failed": 1}),
        ({"edit": [HARDER]}, {"rounds": 1}, [1], {}),
    ],
    ids=lambda value: "",
)
def test_what_rewriting_keeps(
    tmp_path: Path, replies: dict[str, Any], options: dict[str, Any], kept: list[int], dropped: dict[str, int]
) -> None:
    new, stage, requests = scripted(tmp_path, {"suggest": "1. Add a step.", "solve": "#### 1", **replies}, ask_me_anything=False, **options)
    assert [row.round for row in new] == kept
    assert stage.dropped == dropped
    if 2 in kept:
        assert new[1].parents == [new[0].id]
        second = [body for body in requests if body["messages"][0]["content"].startswith("Task: suggest")][1]
        assert new[0].question in second["messages"][1]["content"]


@pytest.mark.parametrize(
    ("reply", "options", "kept", "dropped"),
    [
        (ASKED, {}, 1, {}),
        (f"{ASKED}\n\n{ASKED}", {}, 1, {"duplicate": 1}),
        (f"Question: {QUESTION}\n\n{ASKED}", {}, 1, {"duplicate": 1}),
        ("\n".join(f"Question: Tom has {n} apples. How many has he?" for n in range(14)), {}, 10, {"over_limit": 4}),
        (
            "\n".join(f"Question: Tom has {n} apples. How many has he?" for n in range(5)),
            {"max_questions_per_seed": 2},
            2,
            {"over_limit": 3},
        ),
        ("Question: 1 + 1?\n\n" + ASKED, {}, 1, {"empty": 1}),
        ("Sorry.", {}, 0, {"unparsable_reply": 1}),
        (Answer(400), {}, 0, {"teacher_failed": 1}),
    ],
    ids=lambda value: "",
)
def test_what_asking_keeps(tmp_path: Path, reply: str | Answer, options: dict[str, Any], kept: int, dropped: dict[str, int]) -> None:
    new, stage, _ = scripted(tmp_path, {"ask_me_anything": reply}, suggester_editor=False, **options)
    assert len(new) == kept
    assert stage.dropped == dropped


def test_the_objective_reaches_both_agents(tmp_path: Path) -> None:
    _, _, requests = scripted(
        tmp_path, {"suggest": "1. x", "edit": [HARDER], "solve": "#### 1"}, ask_me_anything=False, rounds=1, objective="make it about boats"
    )
    for body in requests[:2]:
        assert "Objective: make it about boats" in body["messages"][1]["content"]


def test_nothing_new_from_many_conversations_is_an_error(tmp_path: Path) -> None:
    seeds = [seed_row(f"Tom has {number} apples. How many has he?") for number in range(12)]
    with pytest.raises(EmptyOutputError, match=r"12 conversations brought no new problem \(12 unparsable_reply\)"):
        scripted(tmp_path, {"ask_me_anything": "Sorry."}, seeds, suggester_editor=False)


def test_a_fatal_error_ends_the_stage_but_the_usage_is_kept(tmp_path: Path) -> None:
    stage = StageRun("synthesis")
    seeds = seeds_file(tmp_path, 3)
    with scripted_teacher(lambda _: Answer(401)) as server, pytest.raises(TeacherError, match="401"):
        run(seeds, teacher_options(server.url), SynthesisOptions(), str(tmp_path / "r"), 0, "0/1", tmp_path / "out.jsonl", stage)
    assert stage.usage is not None
    assert stage.usage.failures > 0
    assert not (tmp_path / "out.jsonl").exists()


def test_a_spent_budget_stops_and_a_higher_one_goes_on(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path)
    with pytest.raises(BudgetError, match=r"conversations are done, \d+ are left"):
        synthesize(seeds, teacher_options(offline.url, max_tokens=6000))
    stats = offline.stats()
    assert 3000 < stats["prompt_tokens"] + stats["completion_tokens"] <= 6300
    synthesize(seeds, teacher_options(offline.url))
    assert offline.stats()["duplicates"] == 0


KILLED_AFTER = 4
"""Conversations."""
CHILD = """
import os, signal, sys
from pathlib import Path
from components.core.stage import StageRun
from tests.unit.stages.test_synthesis_stage import KILLED_AFTER, synthesize, teacher_options

def killed(stage, done, total, unit="rows", force=False):
    if done == KILLED_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)

StageRun.progress = killed
synthesize(Path(sys.argv[1]), teacher_options(sys.argv[2], concurrency=8))
"""


def test_after_a_kill_only_unanswered_requests_are_sent(tmp_path: Path, offline: BackgroundTeacher) -> None:
    seeds = seeds_file(tmp_path)
    offline.set_faults(latency_s=0.02)
    child = subprocess.run([sys.executable, "-c", CHILD, str(seeds), offline.url], check=False)
    assert child.returncode == -signal.SIGKILL
    offline.set_faults(latency_s=0.0)
    rows, stage = synthesize(seeds, teacher_options(offline.url))
    after = offline.stats()
    assert stage.usage is not None
    assert stage.usage.cache_hits > 0
    # Lost in the very moment of the kill: what was in flight, and as many replies that had arrived and were not stored yet.
    assert after["duplicates"] <= 2 * 8
    assert stage.usage.requests <= after["distinct"] - KILLED_AFTER, "each conversation that was done had a reply of its own"
    again, second = synthesize(seeds, teacher_options(offline.url))
    assert again == rows
    assert second.usage is not None
    assert second.usage.requests == 0
