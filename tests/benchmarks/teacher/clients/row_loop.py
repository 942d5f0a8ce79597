"""A generation script's loop, as many projects have one: the bare pool, a line of JSON for each reply, and a restart skips the rows
whose numbers are in the file.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.benchmarks.teacher.clients.bare_pool import ask_all
from tests.benchmarks.teacher.clients.job import Job, Texts, run


def read(path: Path) -> dict[int, str]:
    """Replies by row number; a line that a kill left unfinished is skipped."""
    texts: dict[int, str] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        texts[row["row"]] = row["text"]
    return texts


def ask_stage(job: Job, prompts: list[str], stage: str) -> Texts:
    """Ask the rows that have no reply yet."""
    path = Path(job.cache) / f"{stage}.jsonl"
    texts = read(path)
    with path.open("a", buffering=1) as file:

        def keep(row: int, text: str) -> None:
            texts[row] = text
            file.write(json.dumps({"row": row, "text": text}) + "\n")

        asyncio.run(ask_all(job, prompts, [row for row in range(len(prompts)) if row not in texts], keep))
    return [texts.get(row) for row in range(len(prompts))]


if __name__ == "__main__":
    run(lambda job, stage, texts: ask_stage(job, stage.prompts(texts), stage.name))
