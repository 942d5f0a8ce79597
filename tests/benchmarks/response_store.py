"""Time, memory and space of the response store with a million replies, in a folder and on a real S3 server; and of diskcache.

    make bench-store

Requests and replies have about a kilobyte each. Every step runs in a process of its own, with the same texts; what making the texts
costs is measured too, and contained in the time of the writing. diskcache (SQLite) gets the same bytes under the same keys, with its
defaults but for its limit of size. Its writes survive a kill of the process, as ours do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from components.core.store import open_store
from components.teacher.responses.keys import canonical_request, key_of
from components.teacher.responses.store import ResponseStore
from components.teacher.sharing.spending import Spending
from tests.support.s3 import running

ROOT = Path(__file__).parents[2]
LOOKUPS = 100_000
IN_FLIGHT = 64
NOTHING, OURS, DISKCACHE = "texts only", "ours", "diskcache"


class Row(msgspec.Struct):
    """What one step took."""

    contender: str
    replies: int
    step: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    stored_mb: float = 0.0
    objects: int = 0


class Texts:
    """Requests and replies by number: words with a Zipf distribution, the same in every process."""

    def __init__(self) -> None:
        rng = random.Random(0)
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(5000)]
        weights = [1 / (rank + 10) for rank in range(len(words))]
        self._texts = [" ".join(rng.choices(words, weights, k=160)) for _ in range(1000)]

    def request(self, number: int) -> bytes:
        """A canonical request."""
        messages = [{"role": "user", "content": f"{number}: {self._texts[number % 997]}"}]
        return canonical_request("teacher-model", messages, {"max_tokens": 2048, "temperature": 0.7, "top_p": 0.95}, 0)

    def reply(self, number: int) -> bytes:
        """A chat completion."""
        return (
            b'{"id":"chatcmpl-%012d","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%s},'
            % (
                number,
                msgspec.json.encode(self._texts[number * 7 % 991]),
            )
            + b'"finish_reason":"stop"}],"usage":{"prompt_tokens":210,"completion_tokens":220,"total_tokens":430}}'
        )


def chosen(count: int) -> Iterator[int]:
    """Numbers of replies to look up, in no order."""
    rng = random.Random(1)
    return (rng.randrange(count) for _ in range(min(LOOKUPS, count)))


async def write_ours(where: str, count: int, texts: Texts) -> None:
    """Store all replies, with as many in flight as a run has."""
    store, numbers = ResponseStore(open_store(where), "run", "writer"), iter(range(count))

    async def work() -> None:
        for number in numbers:
            request = texts.request(number)
            await store.put(key_of(request), request, texts.reply(number), Spending(210, 220, 0.0005))

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    store.close()


async def ours(where: str, count: int, step: str, texts: Texts) -> None:
    """Open the store, and look up what the step says."""
    store = ResponseStore(open_store(where), "run", "reader")
    store.load()
    assert len(store) == count
    numbers = chosen(count) if step != "open" else iter(())
    if step == "in order":
        numbers = iter(range(min(LOOKUPS, count)))
    for number in numbers:
        key = key_of(texts.request(number))
        assert store.known(key) if step == "known" else await store.get(key) == texts.reply(number)
    store.close()


def diskcache(where: str, count: int, step: str, texts: Texts) -> None:
    """The same with diskcache."""
    from diskcache import Cache  # type: ignore[import-not-found]

    cache = Cache(where, size_limit=1 << 40, eviction_policy="none")
    if step == "write":
        for number in range(count):
            request = texts.request(number)
            cache[key_of(request)] = request + b"\n" + texts.reply(number)
        return
    assert len(cache) == count
    numbers = chosen(count) if step != "open" else iter(())
    if step == "in order":
        numbers = iter(range(min(LOOKUPS, count)))
    for number in numbers:
        request = texts.request(number)
        assert key_of(request) in cache if step == "known" else cache[key_of(request)].endswith(texts.reply(number))


def nothing(count: int, texts: Texts) -> None:
    """What making the texts costs."""
    for number in range(count):
        key_of(texts.request(number))
        texts.reply(number)


def child(contender: str, where: str, count: int, step: str) -> None:
    """One step; prints what it took, without the start of the process."""
    texts = Texts()
    wall, cpu = time.monotonic(), time.process_time()
    if contender == NOTHING:
        nothing(count, texts)
    elif contender == DISKCACHE:
        diskcache(where, count, step, texts)
    else:
        asyncio.run(write_ours(where, count, texts) if step == "write" else ours(where, count, step, texts))
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    print(msgspec.json.encode([time.monotonic() - wall, time.process_time() - cpu, peak]).decode())


def measure(name: str, contender: str, where: str, count: int, step: str, environment: dict[str, str]) -> Row:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.response_store", "--child", contender, where, str(count), step]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    wall, cpu, peak = msgspec.json.decode(done.stdout.splitlines()[-1])
    print(f"{name}: {step}: {wall:.1f} s", file=sys.stderr)
    return Row(name, count, step, wall, cpu, peak)


def in_folder(name: str, contender: str, count: int, environment: dict[str, str]) -> list[Row]:
    """All steps of a contender in a folder, which is removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="tutorloop-bench-"))
    try:
        rows = [measure(name, contender, str(folder), count, step, environment) for step in STEPS]
        files = [path for path in folder.rglob("*") if path.is_file()]
        for row in rows:
            row.stored_mb, row.objects = sum(path.stat().st_size for path in files) / 1e6, len(files)
        return rows
    finally:
        shutil.rmtree(folder)


def on_s3(count: int) -> list[Row]:
    """All steps on a real server of this machine; its own work is not counted."""
    folder = Path(tempfile.mkdtemp(prefix="tutorloop-bench-"))
    try:
        with running(folder) as server:
            os.environ.update(server.environment())
            where = f"s3://{server.new_bucket()}/responses"
            rows = [measure("ours, S3", OURS, where, count, step, {}) for step in STEPS]
            items = list(open_store(where).items())
        for row in rows:
            row.stored_mb, row.objects = sum(item.size for item in items) / 1e6, len(items)
        return rows
    finally:
        shutil.rmtree(folder)


STEPS = ("write", "open", "known", "lookup", "in order")


def table(rows: list[Row]) -> str:
    """The result as Markdown."""
    lines = ["| store | replies | step | seconds | CPU seconds | peak MB | stored MB | objects |", "|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.contender} | {row.replies:,} | {row.step} | {row.wall_s:.1f} | {row.cpu_s:.1f} | {row.peak_mb:.0f} "
        f"| {row.stored_mb:,.0f} | {row.objects:,} |"
        for row in rows
    ]
    return "\n".join(lines)


def page(rows: list[Row]) -> str:
    """The table with what its steps are."""
    return f"""# The response store

Written by `make bench-store`; {len(os.sched_getaffinity(0))} cores. A request and its reply have about a kilobyte each; all contenders
store the same bytes, made anew in each process (*texts only* is what that costs). Every step is a process of its own. Write: {IN_FLIGHT}
at once. Open: until the first lookup could be answered. Known: whether {LOOKUPS:,} keys are there. Lookup: read {LOOKUPS:,} replies in
random order. In order: as many as they were written; the last three contain the opening. diskcache (SQLite) keeps its defaults but for
its limit of size.

{table(rows)}
"""


def main() -> None:
    """Entry point."""
    if sys.argv[1:2] == ["--child"]:
        contender, where, count, step = sys.argv[2:]
        child(contender, where, int(count), step)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--s3-replies", type=int, default=200_000)
    parser.add_argument("--rival-replies", type=int, default=0, help="as --replies when 0")
    parser.add_argument("--rivals", type=Path, help="folder into which diskcache was installed")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--table", type=Path, help="write the table here")
    options = parser.parse_args()
    jobs: list[Callable[[], list[Row]]] = [
        lambda: [measure(NOTHING, NOTHING, "", options.replies, "write", {})],
        lambda: in_folder("ours, folder", OURS, options.replies, {}),
    ]
    if options.rivals:
        path = {"PYTHONPATH": str(options.rivals.resolve())}
        jobs.append(lambda: in_folder("diskcache", DISKCACHE, options.rival_replies or options.replies, path))
    if options.s3_replies:
        jobs.append(lambda: on_s3(options.s3_replies))
    rows = [row for job in jobs for row in job()]
    print(table(rows))
    if options.table:
        options.table.write_text(page(rows))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))


if __name__ == "__main__":
    main()
