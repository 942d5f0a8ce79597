"""What is measured: how fast, how well under faults, and how much is paid again after kills, edits and restarts."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.benchmarks.teacher.behaviour import Behaviour, make_prompts, prompt_key, reply_to
from tests.benchmarks.teacher.clients.job import Texts
from tests.benchmarks.teacher.environments import Client
from tests.benchmarks.teacher.measure import WATCH_S, Process, Run, Server

CONCURRENCY = 64
RETRIES = 10
SETTLE_S = 0.5
STAGES = ["Check this solution.\n{text}", "Say this in fewer words.\n{text}"]
EDITED_STAGES = [STAGES[0], "Say this in one sentence.\n{text}"]


class Result(msgspec.Struct, kw_only=True):
    """One run, as it is kept.

    Attributes:
        scenario: Name of the scenario.
        client: Name of the client.
        repetition: Number of the repetition.
        problem: Empty if it came to its end; else why not.
        seconds: From the call to the results.
        process_s: With the start of the interpreter and the imports.
        cpu_s: Processor time of the client.
        start_cpu_s: The part of it before its first request: the interpreter and the imports.
        peak_mb: Its peak resident memory.
        server_cpu_s: Processor time of the server.
        needed: Requests that had to be sent.
        sent: Requests that were sent, probes among them.
        lost: Rows without their reply.
        paid_twice: Replies to prompts that had been answered before.
        in_flight: Of those sent again, the ones whose reply had not reached the client at the kill.
        ideal_s: Service time of all attempts, divided by the requests in flight.
        most_in_flight: Most requests in flight at the server.
        largest_crowd: Most further attempts within a tenth of a second.
    """

    scenario: str
    client: str
    repetition: int = 0
    problem: str = ""
    seconds: float = 0.0
    process_s: float = 0.0
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0
    peak_mb: float = 0.0
    server_cpu_s: float = 0.0
    needed: int = 0
    sent: int = 0
    lost: int = 0
    paid_twice: int = 0
    in_flight: int = 0
    ideal_s: float = 0.0
    most_in_flight: int = 0
    largest_crowd: int = 0


class Course:
    """Where one client runs one scenario.

    Args:
        server: The server.
        client: The client.
        folder: A fresh folder: the client's cache, outputs and logs.
        rows: Rows of the scenarios with 2,000 rows.
        limit_s: Longest time for one run.
    """

    def __init__(self, server: Server, client: Client, folder: Path, rows: int, limit_s: float) -> None:
        self.server, self.client, self.folder, self.rows, self.limit_s = server, client, folder, rows, limit_s
        self.cache = folder / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)

    def start(self, prompts: list[str], stages: list[str] | None = None) -> Process:
        """Start the client on the prompts."""
        job: dict[str, object] = {
            "url": self.server.url + "/v1",
            "prompts": prompts,
            "stages": stages or [],
            "concurrency": CONCURRENCY,
            "retries": RETRIES,
            "cache": str(self.cache),
        }
        return Process(self.client, job, self.folder)

    def run(self, scenario: str, prompts: list[str], behaviour: Behaviour, stages: list[str] | None = None, needed: int = -1) -> Result:
        """Run the client once, with a new count, and tell what it did."""
        self.server.behave(behaviour)
        before = self.server.cpu_s
        run = self.start(prompts, stages).wait(self.limit_s)
        return self.result(scenario, run, prompts, before, needed, stages or [])

    def result(
        self, scenario: str, run: Run, prompts: list[str], server_cpu_s: float, needed: int = -1, stages: Sequence[str] = ()
    ) -> Result:
        """What a run that has just ended did."""
        counts = self.server.counts()
        return Result(
            scenario=scenario,
            client=self.client.name,
            problem=run.problem,
            seconds=run.seconds,
            process_s=run.process_s,
            cpu_s=run.cpu_s,
            start_cpu_s=run.start_cpu_s,
            peak_mb=run.peak_mb,
            server_cpu_s=self.server.cpu_s - server_cpu_s,
            needed=len(prompts) + counts.errors if needed < 0 else needed,
            sent=counts.requests + counts.probes,
            lost=sum(lost_rows(*rows) for rows in zip(asked(prompts, stages), run.texts or [[]] * (len(stages) + 1), strict=True)),
            paid_twice=sum(max(0, each.answered - 1) for each in counts.prompts.values()),
            ideal_s=counts.service_s / CONCURRENCY,
            most_in_flight=counts.most_in_flight,
            largest_crowd=counts.largest_crowd,
        )


def asked(prompts: list[str], stages: Sequence[str]) -> list[list[str]]:
    """The prompts of all stages, when every reply is right."""
    return [prompts, *([template.replace("{text}", reply_to(prompt)) for prompt in prompts] for template in stages)]


def lost_rows(prompts: list[str], texts: Texts) -> int:
    """Rows that have no reply, or another row's."""
    padded = [*texts, *[None] * (len(prompts) - len(texts))]
    return sum((text or "").strip() != reply_to(prompt) for prompt, text in zip(prompts, padded, strict=False))


def throughput(course: Course) -> Iterator[Result]:
    """2,000 requests, 50 ms each."""
    yield course.run("throughput", make_prompts(course.rows), Behaviour())


def long_tail(course: Course) -> Iterator[Result]:
    """800 requests, log-normal: median 0.3 s, sigma 1.2, at most 6 s."""
    yield course.run("long tail", make_prompts(course.rows * 2 // 5), Behaviour(latency_s=0.3, sigma=1.2))


def errors(course: Course) -> Iterator[Result]:
    """2,000 requests of 0.6 s, HTTP 500 for one attempt in ten."""
    yield course.run("10 % HTTP 500", make_prompts(course.rows), Behaviour(latency_s=0.6, error_share=0.1))


def rate_limits(course: Course) -> Iterator[Result]:
    """2,000 requests of 0.6 s, HTTP 429 with Retry-After: 1 for one attempt in twenty."""
    behaviour = Behaviour(latency_s=0.6, error_share=0.05, error_status=429, retry_after_s=1)
    yield course.run("5 % HTTP 429", make_prompts(course.rows), behaviour)


def kill(course: Course) -> Iterator[Result]:
    """Kill at half.

    The server answers half of the requests and falls silent; half a second after the client has read them, when it has had the time to
    do with them whatever it does, it is killed with all its processes. So it is beyond doubt which requests were answered.
    """
    prompts = make_prompts(course.rows)
    half = course.rows // 2
    course.server.behave(Behaviour(silent_after=half))
    quiet_looks = 0

    def look() -> bool:
        nonlocal quiet_looks
        quiet = course.server.answered() >= half and not course.server.unread()
        # Looks, not seconds by the clock: while the whole machine stands still the client does nothing either.
        quiet_looks = quiet_looks + 1 if quiet else 0
        return quiet_looks * WATCH_S > SETTLE_S

    yield from _killed(course, "kill at half", prompts, look)


def kill_at_work(course: Course) -> Iterator[Result]:
    """Kill at half, at full speed.

    For the count, the client is frozen first: a reply that the kernel still holds for it was in flight. What it has read and not yet
    kept is paid again.
    """
    prompts = make_prompts(course.rows)
    course.server.behave(Behaviour())
    yield from _killed(course, "kill at full speed", prompts, lambda: course.server.answered() >= course.rows // 2)


def _killed(course: Course, scenario: str, prompts: list[str], due: Callable[[], bool]) -> Iterator[Result]:
    process = course.start(prompts)
    unread: set[str] = set()

    def look() -> bool:
        if not due():
            return False
        process.freeze()
        time.sleep(SETTLE_S)
        unread.update(course.server.unread())
        return True

    first = process.wait(course.limit_s, look)
    if first.problem != "killed":
        yield Result(scenario=scenario, client=course.client.name, problem=first.problem or "fails: ended before the kill")
        return
    before = course.server.counts().prompts
    result = course.run(scenario, prompts, Behaviour())
    after = course.server.counts().prompts
    answered = {key for key, each in before.items() if each.answered} - unread
    result.needed = len(prompts) - len(answered)
    result.paid_twice = sum(key in answered for key in after)
    result.in_flight = sum(key in before and key not in answered for key in after)
    yield result


def reruns(course: Course) -> Iterator[Result]:
    """A full run, and then from what it left: the same again, one row edited, other order, 100 new rows."""
    prompts = make_prompts(course.rows)
    yield course.run("first run", prompts, Behaviour())
    edited = list(prompts)
    edited[course.rows // 3] += " Think twice."
    shuffled = random.Random(1).sample(prompts, len(prompts))
    snapshot = course.folder / "snapshot"
    shutil.copytree(course.cache, snapshot, symlinks=True)
    for scenario, rows, needed in (
        ("run again", prompts, 0),
        ("one row edited", edited, 1),
        ("other order", shuffled, 0),
        ("100 new rows", [*prompts, *make_prompts(100, "new")], 100),
    ):
        # The same place, since a cache may hold its own path.
        shutil.rmtree(course.cache)
        shutil.copytree(snapshot, course.cache, symlinks=True)
        result = course.run(scenario, rows, Behaviour(), needed=needed)
        known = {prompt_key(prompt) for prompt in prompts}
        result.paid_twice = sum(each.answered for key, each in course.server.counts().prompts.items() if key in known)
        yield result


def stages(course: Course) -> Iterator[Result]:
    """Three stages, two of which ask about the texts of the first; then the prompt of one of those two is another."""
    prompts = make_prompts(course.rows)
    first = course.run("three stages", prompts, Behaviour(), STAGES, needed=3 * len(prompts))
    known = set(course.server.counts().prompts)
    yield first
    if not first.problem:
        result = course.run("one of three prompts", prompts, Behaviour(), EDITED_STAGES, needed=len(prompts))
        result.paid_twice = sum(each.answered for key, each in course.server.counts().prompts.items() if key in known)
        yield result


def four_processes(course: Course) -> Iterator[Result]:
    """Four at once with one cache; every row is in the work of two of them, each in an order of its own."""
    prompts = make_prompts(course.rows)
    quarter = course.rows // 4
    parts = []
    for number in range(4):
        rows = [prompts[(number * quarter + place) % len(prompts)] for place in range(2 * quarter)]
        parts.append(random.Random(number).sample(rows, len(rows)))
    course.server.behave(Behaviour())
    before = course.server.cpu_s
    processes = [course.start(part) for part in parts]
    runs = [process.wait(course.limit_s) for process in processes]
    whole = Run(
        seconds=max(run.seconds for run in runs),
        process_s=max(run.process_s for run in runs),
        cpu_s=sum(run.cpu_s for run in runs),
        start_cpu_s=sum(run.start_cpu_s for run in runs),
        peak_mb=sum(run.peak_mb for run in runs),
        problem=next((run.problem for run in runs if run.problem), ""),
    )
    result = course.result("four processes", whole, prompts, before, needed=4 * quarter)
    result.lost = sum(lost_rows(part, run.texts[0] if run.texts else []) for part, run in zip(parts, runs, strict=True))
    yield result


SPEED: dict[str, Callable[[Course], Iterator[Result]]] = {
    "throughput": throughput,
    "long-tail": long_tail,
    "errors": errors,
    "rate-limits": rate_limits,
}
MEMORY: dict[str, Callable[[Course], Iterator[Result]]] = {
    "kill": kill,
    "kill-at-work": kill_at_work,
    "reruns": reruns,
    "stages": stages,
    "four-processes": four_processes,
}
SCENARIOS = SPEED | MEMORY
ONCE = MEMORY.keys() - {"kill", "kill-at-work"}
"""Where another repetition would tell the same: what is asked is counted, and no moment of a kill is left to chance."""
