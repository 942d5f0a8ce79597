"""What has been paid for is never asked again: not after a kill, an edit, a new order, a changed prompt, or by four shards at once."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from components.core.records import Problem, problem_id, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.judging.options import JudgingOptions
from components.judging.verdicts import Question, ask_all
from components.solving.options import SolvingOptions
from components.solving.stage import run as solve
from components.synthesis.options import SynthesisOptions
from components.synthesis.stage import run as synthesize
from components.teacher import prompts
from components.teacher.options import TeacherOptions
from components.teacher.responses.keys import request_key
from components.teacher.responses.prune import Pruning, Rules
from components.teacher.responses.store import ResponseStore
from tests.support.s3 import S3Server
from tests.support.scripted_teacher import Body, ScriptedTeacher, scripted_teacher
from tests.support.waiting import wait_until

WORKER = """
import asyncio, sys
from pathlib import Path
from components.teacher.sharing import shared_log
from components.teacher.client import Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions

async def main(url: str, address: str, file: str, in_flight: int) -> None:
    rows = Path(file).read_text().splitlines()
    async with Teacher(TeacherOptions(base_url=url, model="m", concurrency=in_flight), address) as teacher:
        async def ask(row: str) -> str:
            return (await teacher.chat([{"role": "user", "content": row}], temperature=0.0)).text
        replies = await map_concurrently(ask, rows, in_flight)
        assert replies == [f"reply to {row}" for row in rows]
        print(teacher.usage.requests, teacher.usage.cache_hits)

# What nobody needs any more is tidied away soon.
shared_log.CHECKPOINT_EVERY = 4
asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""
IN_FLIGHT = 64


class Held:
    """Replies that are held back, so that a test acts while work is under way, however slow the machine is.

    Attributes:
        answered: The questions that were answered, in that order.
        released: Once it is set, all are answered.
    """

    def __init__(self, workers: int, count: int) -> None:
        """Nothing is answered before all ``workers`` have asked what they ask at once, and no more than ``count`` before the release."""
        self.answered: list[str] = []
        self._awaited, self._places = workers * IN_FLIGHT, count
        self._together, self.released = asyncio.Event(), asyncio.Event()

    async def __call__(self, body: Body) -> str:
        self._awaited -= 1
        if not self._awaited:
            self._together.set()
        await self._together.wait()
        self._places -= 1
        if self._places < 0:
            await self.released.wait()
        self.answered.append(body["messages"][-1]["content"])
        return f"reply to {self.answered[-1]}"


async def answer(body: Body) -> str:
    await asyncio.sleep(0.02)
    return f"reply to {body['messages'][-1]['content']}"


def questions(count: int, start: int = 0) -> list[str]:
    return [f"How much is {number} and {number}?" for number in range(start, start + count)]


@contextmanager
def start(server: ScriptedTeacher, address: str, folder: Path, rows: list[str], name: str = "rows") -> Iterator[subprocess.Popen[str]]:
    file = folder / f"{name}.txt"
    file.write_text("\n".join(rows))
    command = [sys.executable, "-c", WORKER, server.url, address, str(file), str(IN_FLIGHT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


@contextmanager
def start_all(server: ScriptedTeacher, address: str, folder: Path, parts: list[list[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(start(server, address, folder, part, f"part-{number}")) for number, part in enumerate(parts)]


def asked(server: ScriptedTeacher, address: str, folder: Path, rows: list[str]) -> int:
    """Ask for all rows in a process of its own; the number of requests that the server saw."""
    before = len(server.requests)
    with start(server, address, folder, rows) as worker:
        assert worker.wait() == 0
    return len(server.requests) - before


def texts(server: ScriptedTeacher, since: int = 0) -> list[str]:
    return [body["messages"][-1]["content"] for body in server.requests[since:]]


def stored(address: str, rows: list[str]) -> set[str]:
    store = ResponseStore(open_store(address), "looking", "looking")
    store.load()
    parameters = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2048}
    keys = {row: request_key("m", [{"role": "user", "content": row}], parameters, 0) for row in rows}
    found = {row for row, key in keys.items() if store.known(key)}
    store.close()
    return found


def test_after_a_kill_no_answered_request_is_sent_again(address: str, tmp_path: Path) -> None:
    """The teacher falls silent after half of the answers, so that there is no doubt which requests were answered at the kill."""
    rows, replies = questions(2000), Held(1, count=1000)
    with scripted_teacher(replies) as server:
        with start(server, address, tmp_path, rows) as worker:
            wait_until(lambda: len(server.requests) == 1000 + IN_FLIGHT)
            # The last answers are on their way.
            wait_until(lambda: len(stored(address, rows)) == 1000)
            worker.kill()
        sent, paid = len(server.requests), set(replies.answered)
        server.set(replies.released)
        assert asked(server, address, tmp_path, rows) == 1000
        assert not paid & set(texts(server, since=sent))


def test_only_what_is_new_is_asked(address: str, tmp_path: Path) -> None:
    rows = questions(2000)
    with scripted_teacher(answer) as server:
        assert asked(server, address, tmp_path, rows) == 2000
        assert asked(server, address, tmp_path, ["Edited?" if row == rows[700] else row for row in rows]) == 1
        assert asked(server, address, tmp_path, rows[::-1]) == 0
        assert asked(server, address, tmp_path, rows + questions(100, start=5000)) == 100


def test_shards_that_overlap_ask_each_request_once(address: str, tmp_path: Path) -> None:
    """Each begins at a place of its own, and what they ask there waits for the others: so all four are at work on what they share."""
    rows, replies = questions(400), Held(4, count=400)
    parts = [rows, rows[::-1], rows[200:] + rows[:200], rows[100:300]]
    with scripted_teacher(replies) as server, start_all(server, address, tmp_path, parts) as workers:
        outputs = [worker.communicate()[0].split() for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * 4
        assert [count for count in Counter(texts(server)).items() if count[1] > 1] == []
        assert len(server.requests) == 400
        assert sum(int(requests) for requests, _ in outputs) == 400
        assert [int(requests) + int(hits) for requests, hits in outputs] == [len(part) for part in parts]
        assert all(int(requests) >= IN_FLIGHT for requests, _ in outputs)


def wait_until_both_hold(server: ScriptedTeacher, replies: Held) -> None:
    """Wait until 150 are answered and both workers have asked as much as they ask at once, which is held back.

    Only then is it sure that each has requests in flight: on a busy machine one that has just stored its answers may have none. What a
    worker was answered before is in the store by then, since it asks no more while it stores.
    """
    wait_until(lambda: len(replies.answered) == 150 and len(server.requests) == 150 + 2 * IN_FLIGHT)


def test_a_shard_that_dies_is_taken_over(tmp_path: Path) -> None:
    """It holds its claims when it is killed; the other one gets all its rows, and asks again only what was in flight."""
    address, rows, replies = str(tmp_path / "store"), questions(300), Held(2, count=150)
    with scripted_teacher(replies) as server:
        with start_all(server, address, tmp_path, [rows, rows[::-1]]) as (first, second):
            wait_until_both_hold(server, replies)
            first.kill()
            server.set(replies.released)
            assert second.wait() == 0
        twice = [row for row, count in Counter(texts(server)).items() if count > 1]
        assert len(twice) == IN_FLIGHT


def test_a_shard_that_is_paused_and_taken_for_dead_asks_again_only_what_was_in_flight(s3_bucket: str, tmp_path: Path) -> None:
    """The other one has finished everything, left, and tidied away what it wrote for others to read."""
    address, rows, replies = f"{s3_bucket}/responses", questions(300), Held(2, count=150)
    with scripted_teacher(replies) as server:
        with start_all(server, address, tmp_path, [rows, rows[::-1]]) as (first, second):
            wait_until_both_hold(server, replies)
            first.send_signal(signal.SIGSTOP)
            read_before = set(open_store(address).list("claims/"))
            server.set(replies.released)
            assert second.wait() == 0
            assert not read_before & set(open_store(address).list("claims/"))
            first.send_signal(signal.SIGCONT)
            assert first.wait() == 0
        twice = [row for row, count in Counter(texts(server)).items() if count > 1]
        assert len(twice) == IN_FLIGHT


def test_a_store_that_is_away_for_a_minute_costs_time_and_nothing_else(
    mortal_s3_server: S3Server, mortal_s3_bucket: str, tmp_path: Path
) -> None:
    """Two processes over the same rows: neither takes the other for dead meanwhile, since neither could hear it."""
    address, rows, replies = f"{mortal_s3_bucket}/responses", questions(600), Held(2, count=300)
    with scripted_teacher(replies) as server, start_all(server, address, tmp_path, [rows, rows[::-1]]) as workers:
        wait_until(lambda: len(replies.answered) == 300)
        mortal_s3_server.kill()
        server.set(replies.released)
        time.sleep(60)
        assert [worker.poll() for worker in workers] == [None, None]
        mortal_s3_server.start()
        outputs = [worker.communicate()[0].splitlines()[-1].split() for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0]
        assert len(server.requests) == len(set(texts(server))) == 600
        assert sum(int(requests) for requests, _ in outputs) == 600


def test_of_three_stages_only_those_that_a_changed_prompt_reaches_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthesis and solving share requests for solutions; what judging asks depends on the text of the solutions."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    for file in prompts.FOLDER.glob("*.md"):
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(prompts, "FOLDER", folder)

    def script(body: Body) -> str:
        system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
        match system.splitlines()[0].removeprefix("Task: "):
            case "ask_me_anything":
                return "Target: x\nQuestion: Ann has 3 red pens and some blue pens in her bag, 7 pens in all. How many of them are blue?"
            case "solve":
                return f"{'In short: ' if 'Be brief.' in system else ''}it is {len(user)}.\n#### {len(user)}"
            case _:
                return "Reference: 1\nStudent: 1\nVerdict: Correct"

    def loop(server: ScriptedTeacher) -> Counter[str]:
        prompts.load_prompt.cache_clear()
        since = len(server.requests)
        teacher = TeacherOptions(base_url=server.url, model="m", concurrency=8)
        seeds, problems, solutions = (tmp_path / f"{name}.jsonl" for name in ("seeds", "problems", "solutions"))
        question = "Ann has 3 red pens and 4 blue pens in her bag. How many pens has Ann?"
        seed = Problem(id=problem_id(question), source="builtin", split="train", question=question, answer="7", licence="CC0")
        write_records(seeds, [seed])
        store = str(tmp_path / "store")
        synthesize(seeds, teacher, SynthesisOptions(suggester_editor=False), store, 0, "0/1", problems, StageRun("synthesis"))
        solve(problems, teacher, SolvingOptions(), store, solutions, StageRun("solving"))
        rows = [msgspec.json.decode(line) for line in solutions.read_bytes().splitlines()]
        asked = [Question(row["question"], row["answer"], row["solution"]) for row in rows]
        asyncio.run(ask_all(asked, teacher, store, JudgingOptions(), StageRun("judging")))
        return Counter(body["messages"][0]["content"].splitlines()[0].removeprefix("Task: ") for body in server.requests[since:])

    with scripted_teacher(script) as server:
        first = loop(server)
        assert set(first) >= {"ask_me_anything", "solve", "judge"}
        assert loop(server) == Counter()
        (folder / "judge.md").write_text((folder / "judge.md").read_text() + "\nBe fair.")
        assert loop(server) == Counter(judge=first["judge"])
        (folder / "solve.md").write_text((folder / "solve.md").read_text() + "\nBe brief.")
        assert loop(server) == Counter(solve=first["solve"], judge=first["judge"]), "new solutions are judged anew"
        (folder / "suggest.md").write_text((folder / "suggest.md").read_text() + "\nBe bold.")
        assert loop(server) == Counter(), "nobody asked it"


def test_a_week_later_only_new_seeds_are_asked_for(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other runs, the new seeds among the old ones, and a store that was packed in between."""

    def script(body: Body) -> str:
        system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
        if system.startswith("Task: ask_me_anything"):
            pens = re.search(r"has (\d+) red pens", user)
            assert pens is not None
            return f"Target: x\nQuestion: Ann has {pens[1]} red pens and some blue pens, {int(pens[1]) + 4} in all. How many are blue?"
        return f"It is {len(user)}.\n#### {len(user)}"

    def loop(server: ScriptedTeacher, run: str, numbers: Iterable[int]) -> Counter[str]:
        """The requests of synthesis and solving, as they came."""
        since = len(server.requests)
        monkeypatch.setenv("TUTORLOOP_RUN", run)
        teacher = TeacherOptions(base_url=server.url, model="m", concurrency=8)
        seeds, problems, solutions = (tmp_path / f"{run}-{name}.jsonl" for name in ("seeds", "problems", "solutions"))
        questions = [f"Ann has {number} red pens and 4 blue pens in her bag. How many pens has Ann?" for number in numbers]
        rows = [
            Problem(id=problem_id(text), source="builtin", split="train", question=text, answer="7", licence="CC0") for text in questions
        ]
        write_records(seeds, rows)
        synthesize(seeds, teacher, SynthesisOptions(suggester_editor=False), address, 0, "0/1", problems, StageRun("synthesis"))
        solve(problems, teacher, SolvingOptions(), address, solutions, StageRun("solving"))
        return Counter(msgspec.json.encode(body["messages"]).decode() for body in server.requests[since:])

    def pack() -> int:
        return len(Pruning(open_store(address), Rules(all=True), False, lambda _: None).run().packed)

    with scripted_teacher(script) as server:
        first = loop(server, "one", range(100, 140))
        assert set(first.values()) == {1} and len(first) % 40 == 0
        assert pack() > 1
        second = loop(server, "two", [*range(195, 200), *range(100, 140), *range(200, 205)])
        assert not set(first) & set(second)
        assert set(second.values()) == {1} and len(second) * 4 == len(first), "as much for a new seed as for an old one"
        assert pack() > 1
        assert loop(server, "three", [*range(195, 205), *range(139, 99, -1)]) == Counter()
