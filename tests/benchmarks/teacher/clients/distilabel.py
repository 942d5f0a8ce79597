"""distilabel: a pipeline with a TextGeneration task for each stage. ``llm`` as an argument: its OpenAILLM alone, batch after batch.

A batch holds as many rows as there may be requests in flight, since distilabel sends a batch at once and waits for all of it.
"""

from __future__ import annotations

import os
import sys

# Before the import: no telemetry, nothing fetched.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")

from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from tests.benchmarks.teacher.clients.job import MODEL, Job, Stage, Texts, run

KWARGS = {"temperature": 0.0, "max_new_tokens": 512}


def with_pipeline(job: Job, stage: Stage, texts: Texts) -> Texts:
    """A pipeline of two steps; its cache is in the job's folder."""
    with Pipeline(name=stage.name, cache_dir=job.cache) as pipeline:
        load = LoadDataFromDicts(name="load", data=[{"text": text} for text in texts], batch_size=job.concurrency)
        llm = OpenAILLM(model=MODEL, base_url=job.url, api_key="none", max_retries=job.retries, generation_kwargs=KWARGS)
        template = stage.template.replace("{text}", "{{ text }}")
        ask = TextGeneration(name="ask", llm=llm, template=template, columns=["text"], input_batch_size=job.concurrency)
        load >> ask
    rows = pipeline.run(use_cache=True)["default"]["train"]
    answers = dict(zip(rows["text"], rows["generation"], strict=True))
    return [answers.get(text) for text in texts]


def with_llm(job: Job, stage: Stage, texts: Texts) -> Texts:
    """The language model object, without a pipeline around it, and so without a cache."""
    llm = OpenAILLM(model=MODEL, base_url=job.url, api_key="none", max_retries=job.retries, generation_kwargs=KWARGS)
    llm.load()
    prompts = stage.prompts(texts)
    answers: Texts = []
    for start in range(0, len(prompts), job.concurrency):
        batch = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + job.concurrency]]
        answers += [output["generations"][0] for output in llm.generate_outputs(batch, **KWARGS)]
    return answers


if __name__ == "__main__":
    run(with_llm if "llm" in sys.argv[1:] else with_pipeline)
