"""bespokelabs-curator: one LLM object for each stage, its cache in the job's folder, its limits out of the way."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

NO_LIMIT = 10_000_000

# Before the import: no telemetry, no viewer, nothing fetched. Its token counter wants the file of an encoding, which litellm, a
# dependency of it, ships: the real one, in the place where tiktoken looks for what it has fetched before.
os.environ.update(TELEMETRY_ENABLED="false", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", LITELLM_LOCAL_MODEL_COST_MAP="True")
os.environ.setdefault("OPENAI_API_KEY", "none")
_litellm = importlib.util.find_spec("litellm")
if _litellm is not None and _litellm.origin is not None:
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(_litellm.origin).parent / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator  # noqa: E402

from tests.benchmarks.teacher.clients.job import MODEL, Job, Stage, Texts, run  # noqa: E402


class Solver(curator.LLM):  # type: ignore[misc]
    """As its documentation has it: a row in, a row out."""

    def prompt(self, row: dict[str, str]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        return {"prompt": row["prompt"], "response": response}


def generate(job: Job, stage: Stage, texts: Texts) -> Texts:
    """A call of an LLM object with a list of rows."""
    prompts = stage.prompts(texts)
    solver = Solver(
        model_name=MODEL,
        backend="openai",
        generation_params={"temperature": 0.0, "max_tokens": 512},
        backend_params={
            "base_url": job.url,
            "max_concurrent_requests": job.concurrency,
            "max_requests_per_minute": NO_LIMIT,
            "max_tokens_per_minute": NO_LIMIT,
            "max_retries": job.retries,
            "require_all_responses": False,
        },
    )
    rows = solver([{"prompt": prompt} for prompt in prompts], working_dir=job.cache).dataset
    answers = {row["prompt"]: row["response"] for row in rows}
    return [answers.get(prompt) for prompt in prompts]


if __name__ == "__main__":
    run(generate)
