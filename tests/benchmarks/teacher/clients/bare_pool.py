"""The bare pool: as many workers as requests in flight, aiohttp, and nothing else. It stores nothing and counts nothing.

An HTTP error is asked again at once, or after the time that Retry-After names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp

from tests.benchmarks.teacher.clients.job import MODEL, Job, Texts, run


async def ask_all(job: Job, prompts: list[str], rows: Iterable[int], keep: Callable[[int, str], None]) -> None:
    """Workers take the next row from one iterator."""
    rows = iter(rows)
    address = job.url + "/chat/completions"

    async def work(session: aiohttp.ClientSession) -> None:
        for row in rows:
            message = {"role": "user", "content": prompts[row]}
            body = {"model": MODEL, "messages": [message], "temperature": 0.0, "max_tokens": 512}
            for _ in range(job.retries + 1):
                async with session.post(address, json=body) as response:
                    if response.status == 200:
                        keep(row, (await response.json())["choices"][0]["message"]["content"])
                        break
                    await response.read()
                    wait = float(response.headers.get("Retry-After", 0))
                await asyncio.sleep(wait)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(job.concurrency)))


def ask_stage(job: Job, prompts: list[str]) -> Texts:
    """Ask all prompts and keep the replies in memory."""
    texts: Texts = [None] * len(prompts)
    asyncio.run(ask_all(job, prompts, range(len(prompts)), texts.__setitem__))
    return texts


if __name__ == "__main__":
    run(lambda job, stage, texts: ask_stage(job, stage.prompts(texts)))
