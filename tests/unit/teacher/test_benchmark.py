"""The race of the teacher's clients: its server counts right, its faults are the same for all, its tables say what was measured."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.benchmarks.teacher.aims import aims
from tests.benchmarks.teacher.behaviour import Behaviour, fails, latency, make_prompts, prompt_key, reply_to
from tests.benchmarks.teacher.clients.job import Job, Stage, Texts, run
from tests.benchmarks.teacher.environments import CLIENTS, HERE, ROOT, Client
from tests.benchmarks.teacher.measure import Server, running_server
from tests.benchmarks.teacher.race import Race, joined, read_results
from tests.benchmarks.teacher.report import BEGIN, END, headline, tables, write_page, write_results
from tests.benchmarks.teacher.scenarios import SCENARIOS, Course, Result, lost_rows
from tests.benchmarks.teacher.server import Counts
from tests.support.waiting import wait_until

NAMES = {prompt_key(prompt): prompt for prompt in ("a", "b", "left", "stayed")}


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


async def ask(session: aiohttp.ClientSession, server: Server, prompt: str) -> tuple[int, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}] if prompt else []}
    async with session.post(server.url + "/v1/chat/completions", json=body) as response:
        return response.status, response.headers.get("Retry-After", "") or (await response.text())


def sent(server: Server, prompt: str) -> socket.socket:
    """A connection on which a request has gone out."""
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    return connection


def answers(counts: Counts) -> dict[str, tuple[int, int]]:
    """How often each prompt has come, and was answered."""
    return {NAMES[key]: (each.arrived, each.answered) for key, each in counts.prompts.items()}


async def test_the_server_counts_what_each_prompt_costs(server: Server) -> None:
    await asyncio.to_thread(server.behave, Behaviour(latency_s=0.01))
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, server, ""))[0] == 400
        replies = await asyncio.gather(*(ask(session, server, prompt) for prompt in ("a", "b", "a")))
        assert [status for status, _ in replies] == [200] * 3
        assert json.loads(replies[1][1])["choices"][0]["message"]["content"] == reply_to("b")
    counts = await asyncio.to_thread(server.counts)
    assert (counts.requests, counts.probes, counts.answered, counts.in_flight) == (3, 1, 3, 0)
    assert answers(counts) == {"a": (2, 2), "b": (1, 1)}
    assert counts.service_s == pytest.approx(0.03)
    assert counts.largest_crowd == 1
    await asyncio.to_thread(server.behave, Behaviour())
    assert (await asyncio.to_thread(server.counts)).requests == 0


async def test_the_server_counts_what_is_in_flight(server: Server) -> None:
    await asyncio.to_thread(server.behave, Behaviour(latency_s=600))
    async with aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(ask(session, server, prompt)) for prompt in "aba"]
        await asyncio.to_thread(wait_until, lambda: server.counts().in_flight == 3)
        for task in asking:
            task.cancel()
        await asyncio.to_thread(wait_until, lambda: server.counts().in_flight == 0)
    counts = await asyncio.to_thread(server.counts)
    assert (counts.requests, counts.answered, counts.most_in_flight) == (3, 0, 3)


async def test_who_hangs_up_is_not_answered_and_does_not_pay(server: Server) -> None:
    await asyncio.to_thread(server.behave, Behaviour(latency_s=2))
    with sent(server, "left"):
        pass
    await asyncio.to_thread(wait_until, lambda: server.counts().requests == 1)
    async with aiohttp.ClientSession() as session:
        # Due after the other one would have been.
        assert (await ask(session, server, "stayed"))[0] == 200
    counts = await asyncio.to_thread(server.counts)
    assert answers(counts) == {"left": (1, 0), "stayed": (1, 1)}
    assert (counts.answered, counts.in_flight) == (1, 0)


async def test_replies_that_nobody_has_read_are_known(server: Server) -> None:
    await asyncio.to_thread(server.behave, Behaviour(latency_s=0.001))
    with sent(server, "a") as connection:
        await asyncio.to_thread(wait_until, lambda: server.answered() == 1)
        assert await asyncio.to_thread(server.unread) == {prompt_key("a")}
        assert reply_to("a").encode() in connection.recv(1 << 20)
        assert await asyncio.to_thread(server.unread) == set()


async def test_the_server_falls_silent_and_sends_faults(server: Server) -> None:
    await asyncio.to_thread(server.behave, Behaviour(latency_s=0.001, silent_after=1))
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, server, "a"))[0] == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(session, server, "b")
        assert (await asyncio.to_thread(server.counts)).answered == 1
        await asyncio.to_thread(server.behave, Behaviour(latency_s=0.001, error_share=1.0, error_status=429, retry_after_s=7))
        assert await ask(session, server, "a") == (429, "7")
        assert (await asyncio.to_thread(server.counts)).errors == 1


def test_faults_and_latencies_depend_on_the_prompt_alone() -> None:
    behaviour = Behaviour(latency_s=0.3, sigma=1.2, error_share=0.1)
    prompts = make_prompts(2000)
    assert prompts == make_prompts(2000)
    assert len(set(prompts)) == 2000
    times = sorted(latency(behaviour, prompt) for prompt in prompts)
    assert times == sorted(latency(behaviour, prompt) for prompt in reversed(prompts))
    assert times[1000] == pytest.approx(0.3, rel=0.15)
    assert (times[0] > 0, times[-1]) == (True, behaviour.longest_s)
    for attempt in range(2):
        share = sum(fails(behaviour, prompt, attempt) for prompt in prompts) / 2000
        assert share == pytest.approx(0.1, abs=0.03)
    # Another attempt is another throw: nothing fails for ever.
    assert any(fails(behaviour, prompt, 0) != fails(behaviour, prompt, 1) for prompt in prompts)


def test_a_row_with_another_rows_reply_is_lost() -> None:
    assert lost_rows(["a", "b", "c"], [reply_to("a"), reply_to("a")]) == 2


HERE_POOL = Client("pool", "pool", "bare_pool", "", ("aiohttp",))
HERE_LOOP = Client("loop", "loop", "row_loop", "", ("aiohttp",), remembers=True)
OURS = next(client for client in CLIENTS if client.name == "tutorloop")


@pytest.mark.parametrize(
    ("scenario", "client", "paid"),
    [
        ("errors", HERE_POOL, [0]),
        ("kill", HERE_POOL, [30]),
        ("kill", OURS, [0]),
        ("reruns", HERE_POOL, [0, 60, 59, 60, 60]),
        ("stages", HERE_POOL, [0, 120]),
    ],
)
def test_scenarios_with_real_clients(scenario: str, client: Client, paid: list[int], server: Server, tmp_path: Path) -> None:
    results = list(SCENARIOS[scenario](Course(server, client, tmp_path, 60, 300)))
    assert [(result.problem, result.lost, result.paid_twice) for result in results] == [("", 0, each) for each in paid]
    if client is OURS:
        assert [result.sent for result in results] == [result.needed for result in results]
    assert all(result.cpu_s > result.start_cpu_s > 0 for result in results)


def test_a_client_that_fails_is_on_record(server: Server, tmp_path: Path) -> None:
    broken = Client("broken", "broken", "no_such_script", "", ())
    (result,) = SCENARIOS["throughput"](Course(server, broken, tmp_path, 10, 300))
    assert result.problem.startswith("fails: ")
    assert "no_such_script" in result.problem
    result = Course(server, HERE_POOL, tmp_path, 1, 0.0).run("never answered", ["a"], Behaviour(latency_s=600))
    assert result.problem == "fails: not done after 0 s"


def test_stages_get_the_texts_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"url": "", "prompts": ["a"], "stages": ["again: {text}"], "concurrency": 1, "retries": 0, "cache": ""}
    job["output"] = str(tmp_path / "output")
    monkeypatch.setattr(sys, "stdin", (tmp_path / "input").open("w+"))
    sys.stdin.write(json.dumps(job))
    sys.stdin.seek(0)
    asked: list[tuple[str, list[str]]] = []

    def generate(job: Job, stage: Stage, texts: Texts) -> Texts:
        asked.append((stage.name, stage.prompts(texts)))
        return [prompt.upper() for prompt in stage.prompts(texts)]

    run(generate)
    assert asked == [("stage-0", ["a"]), ("stage-1", ["again: A"])]
    assert json.loads((tmp_path / "output").read_text())["texts"] == [["A"], ["AGAIN: A"]]


def example() -> Race:
    def result(scenario: str, client: str, seconds: float, **more: int | str) -> Result:
        values = {"repetition": 0, "cpu_s": 1.75, "start_cpu_s": 0.25, "peak_mb": 50.0, "ideal_s": 1.0, "sent": 100, "needed": 100, **more}
        return Result(scenario=scenario, client=client, seconds=seconds, **values)  # type: ignore[arg-type]

    results = [
        result("throughput", "bare", 1.0),
        result("throughput", "tutorloop", 1.25),
        result("long tail", "bare", 2.0),
        result("long tail", "tutorloop", 2.5),
        result("long tail", "bare", 4.0, repetition=1),
        result("long tail", "tutorloop", 6.0, repetition=1),
        result("kill at half", "tutorloop", 1.0, needed=50, sent=50, in_flight=7),
        result("one row edited", "row-loop", 1.0, needed=1, sent=0, lost=1),
        result("kill at half", "curator", 1.0, problem="fails: a pipe | broke"),
    ]
    return Race(machine={"cores": "2", "system": "Linux", "python": "3.11", "day": "2026-11-22"}, rows=100, versions={}, results=results)


def test_the_tables(tmp_path: Path) -> None:
    text = tables(example())
    assert "| TutorLoop | 4.25 (2.50–6.00) | 4.25 | 1.38 |" in text
    assert "| kill at half | 50 | 50 sent, 0 paid again; 7 in flight at the kill | – | fails: a pipe / broke |" in text
    top = headline(example()).splitlines()
    assert top[2] == "| TutorLoop | 80 | 15.00 ms | 1.38 | – | – | 0 | – | – | – |"
    assert top[3] == "| bare aiohttp pool | 100 | 15.00 ms | 1.00 | – | – | no cache | no cache | no cache | no cache |"
    assert top[4].endswith("| – | 0, 1 rows wrong | – |")
    assert {len(line.split("|")) for line in top} == {12}
    write_results(example(), tmp_path)
    assert (tmp_path / "results.md").read_text() == text
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 9


def test_what_was_aimed_at_and_what_was_reached() -> None:
    race = example()
    race.results += [
        Result(scenario="throughput", client="curator", seconds=9.0, cpu_s=1.0, start_cpu_s=0.5, needed=100),
        Result(scenario="10 % HTTP 500", client="tutorloop", seconds=1.2, ideal_s=1.0),
        Result(scenario="5 % HTTP 429", client="tutorloop", seconds=1.3, ideal_s=1.0, lost=1),
    ]
    assert [aim[1:] for aim in aims(race)] == [
        ("at least 0.9", "0.8", "no"),
        ("below 9", "1.25", "yes"),
        ("below 5", "15", "no"),
        ("below 10", "17.5", "no"),
        ("at most 1.03", "1.38", "no"),
        ("at most 1.2", "1.2", "yes"),
        ("at most 1.2", "1.3", "no"),
        ("at most 0", "1", "no"),
        ("at most 0", "0", "yes"),
    ]


def test_the_page_shows_the_results_that_are_kept() -> None:
    race = read_results(HERE)
    assert race is not None
    assert f"{BEGIN}\n{headline(race)}{END}" in (ROOT / "docs" / "teacher.md").read_text(encoding="utf-8")
    assert tables(race) == (HERE / "results.md").read_text(encoding="utf-8")


def test_a_part_of_the_race_can_be_run_again(tmp_path: Path) -> None:
    assert read_results(tmp_path) is None
    assert joined(None, example()) == example()
    write_results(example(), tmp_path)
    part = example()
    part.results = [Result(scenario="long tail", client="tutorloop", seconds=9.0)]
    whole = joined(read_results(tmp_path), part)
    assert len(whole.results) == 8
    assert [each.seconds for each in whole.results if each.scenario == "long tail"] == [2.0, 4.0, 9.0]


def test_the_page_keeps_what_is_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "teacher.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(example(), page)
    write_page(example(), page)
    assert page.read_text() == f"before\n{BEGIN}\n{headline(example())}{END}\nafter\n"
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="no lines"):
        write_page(example(), page)


def test_every_rival_is_pinned() -> None:
    for name in {client.environment for client in CLIENTS if client.environment}:
        lines = (HERE / "requirements" / f"{name}.txt").read_text().split()
        assert lines
        assert all("==" in line for line in lines)
