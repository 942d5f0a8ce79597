"""Plain openai-python: AsyncOpenAI, a semaphore, gather, its own retries. ``aiohttp`` as an argument: with its aiohttp transport."""

from __future__ import annotations

import asyncio
import sys

import openai

from tests.benchmarks.teacher.clients.job import MODEL, Job, Texts, run


async def ask_all(job: Job, prompts: list[str]) -> Texts:
    """A semaphore around each request."""
    transport = openai.DefaultAioHttpClient() if "aiohttp" in sys.argv[1:] else None
    slots = asyncio.Semaphore(job.concurrency)
    async with openai.AsyncOpenAI(base_url=job.url, api_key="none", max_retries=job.retries, http_client=transport) as client:

        async def ask(prompt: str) -> str | None:
            async with slots:
                try:
                    completion = await client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0.0, max_tokens=512
                    )
                except openai.APIError:
                    return None
            return completion.choices[0].message.content

        return await asyncio.gather(*(ask(prompt) for prompt in prompts))


if __name__ == "__main__":
    run(lambda job, stage, texts: asyncio.run(ask_all(job, stage.prompts(texts))))
