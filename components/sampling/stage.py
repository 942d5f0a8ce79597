"""The student practises: several responses to every problem, each reproducible from its own seed."""

from __future__ import annotations

import msgspec

from components.core.errors import EmptyOutputError
from components.core.records import Demonstration, digest_of, in_shard, read_records, row_id, write_records
from components.core.stage import StageRun
from components.sampling.choice import choose, distinct_problems
from components.sampling.options import SamplingOptions
from components.student.generation.chunks import discard_chunks
from components.student.generation.pool import FREE, Prompt, generate_pool
from components.student.generation.sampler import sample_seed
from components.student.models.load import read_info


def run(
    model: str, train: str, options: SamplingOptions, stage: StageRun, *, checkpoints: str, round_number: int, seed: int, output: str
) -> None:
    """Sample this shard's problems.

    Args:
        model: Folder of the model.
        train: Demonstration rows; their problems are practised on.
        options: The stage's options.
        stage: Names the shard; gets counts and progress.
        checkpoints: Store URI for finished chunks.
        round_number: 1-based practice round.
        seed: Seed of the choice of problems and of every sample.
        output: Where to write Sample rows.

    Raises:
        EmptyOutputError: There is no problem to practise on.
        ModelError: The model does not load, or memory runs out.
    """
    problems = distinct_problems(read_records(train, Demonstration))
    if not problems:
        raise EmptyOutputError("sampling: there is no problem to practise on", "see what solving and decontamination dropped")
    chosen = choose(
        problems, count=options.problems_per_round, fresh=options.problem_choice == "fresh", round_number=round_number, seed=seed
    )
    mine = [problem for problem in chosen if in_shard(problem[0], stage.shard)]
    stage.rows_in = len(mine)
    stage.counts["problems"] = len(mine)
    info = read_info(model)
    settings = {name: value for name, value in msgspec.to_builtins(options).items() if name not in FREE}
    key = row_id("sampling", info.digest, digest_of(train), settings, round_number, seed, stage.shard)
    # Long questions first: memory runs out at once or not at all, and the time left is never underestimated.
    mine.sort(key=lambda problem: (-len(problem[1]), problem[0]))
    prompts = [
        Prompt(problem, question, tuple(sample_seed(seed, round_number, problem, index) for index in range(options.n)))
        for problem, question in mine
    ]
    pool = generate_pool(
        model, prompts, options, stage, temperature=options.temperature, top_p=options.top_p, checkpoints=checkpoints, key=key
    )
    rows = pool.rows
    rows.sort(key=lambda row: (row.problem_id, row.sample))
    stage.rows_kept = write_records(output, rows)
    discard_chunks(checkpoints, key)
    tokens = sum(row.tokens for row in rows)
    stage.counts.update(
        resumed_problems=pool.resumed,
        tokens=tokens,
        mean_tokens=tokens / max(len(rows), 1),
        cut_at_max_new_tokens=sum(row.finish == "length" for row in rows),
        load_seconds=round(pool.load_seconds, 2),
    )
    if pool.generated:
        stage.counts["tokens_per_second"] = round(tokens * (1 - pool.resumed / len(mine)) / pool.seconds, 1)
