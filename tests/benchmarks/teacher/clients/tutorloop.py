"""TutorLoop: the teacher's client as the stages use it. Every reply is in a folder store before it counts as answered."""

from __future__ import annotations

import asyncio

from components.teacher.client import ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from tests.benchmarks.teacher.clients.job import MODEL, Job, Texts, run


async def ask_all(job: Job, prompts: list[str]) -> Texts:
    """One teacher, one sliding window."""
    options = TeacherOptions(base_url=job.url, model=MODEL, concurrency=job.concurrency, max_retries=job.retries)
    async with Teacher(options, job.cache) as teacher:

        async def ask(prompt: str) -> str | None:
            try:
                return (await teacher.chat([{"role": "user", "content": prompt}], temperature=0.0, max_tokens=512)).text
            except ReplyError:
                return None

        return await map_concurrently(ask, prompts, teacher.workers)


if __name__ == "__main__":
    run(lambda job, stage, texts: asyncio.run(ask_all(job, stage.prompts(texts))))
