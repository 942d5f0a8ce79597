"""What a client is asked to do, and what it hands back."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODEL = "gpt-4o-mini"
"""A name that every client knows: some look it up in a table of their own. The server does not care."""


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        url: Address of the endpoint, with ``/v1``.
        prompts: The prompts of stage 0.
        stages: Templates of further stages: each asks about what stage 0 answered.
        concurrency: Requests in flight.
        retries: Further attempts at a request.
        cache: Folder for whatever the client remembers from one run to the next.
        output: File for the result.
    """

    url: str
    prompts: list[str]
    stages: list[str]
    concurrency: int
    retries: int
    cache: str
    output: str


Texts = list[str | None]


@dataclass(frozen=True)
class Stage:
    """One question about each row.

    Attributes:
        name: What it is called.
        template: Its prompt, with ``{text}`` for what the row holds.
    """

    name: str
    template: str

    def prompts(self, texts: Texts) -> list[str]:
        """The prompts for what the rows hold."""
        return [self.template.replace("{text}", text or "") for text in texts]


Generate = Callable[[Job, Stage, Texts], Texts]
"""Gets the texts that answer a stage's prompts about the rows, in their order, None for what was lost."""


def run(generate: Generate) -> None:
    """Read the job, do it, write the result: the texts of all stages, the seconds that it took, and the processor time before it."""
    job = Job(**json.load(sys.stdin))
    used = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    texts = [generate(job, Stage("stage-0", "{text}"), list(job.prompts))]
    for number, template in enumerate(job.stages, 1):
        texts.append(generate(job, Stage(f"stage-{number}", template), texts[0]))
    seconds = time.monotonic() - started
    result = {"seconds": seconds, "texts": texts, "start_cpu_s": used.ru_utime + used.ru_stime}
    Path(job.output).write_text(json.dumps(result))
