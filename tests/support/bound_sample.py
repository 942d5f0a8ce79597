"""A pipeline that uses its parameters in every way that KFP has, and a program that runs its package on this machine."""

# mypy: ignore-errors
# KFP reads the annotations itself, and wants them bare.

import json
import sys
from pathlib import Path

from kfp import components, dsl, local


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def tell(word: str, more: dict) -> str:
    """One word."""
    return f"{word}-{more['a']}"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def count_up(part: str, count: float) -> str:
    """Another."""
    return f"{part}+{count}"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def gather(words: list) -> str:
    """Words of a loop, which come in any order."""
    return ",".join(sorted(words))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def join(mode: str, first: str, second: str, third: str) -> str:
    """Everything."""
    return f"{mode}:{first}:{second}:{third}"


@dsl.pipeline
def layer(shards: list, more: dict) -> str:
    """A layer below, which hands its inputs on to a loop of its own."""
    with dsl.ParallelFor(shards) as shard:
        told = tell(word=shard, more=more)
    return gather(words=dsl.Collected(told.output)).output


@dsl.pipeline
def sample(shards: list, more: dict, count: float, mode: str, parts: list) -> str:
    """Parameters for a task, a layer below, loops over a list and over parts of its items, and a condition."""
    below = layer(shards=shards, more=more)
    with dsl.ParallelFor(shards) as shard:
        told = tell(word=shard, more=more)
    with dsl.ParallelFor(parts) as part:
        counted = count_up(part=part.a, count=count)
    with dsl.If(mode == "full"):
        whole = join(
            mode=mode,
            first=gather(words=dsl.Collected(counted.output)).output,
            second=gather(words=dsl.Collected(told.output)).output,
            third=below.output,
        )
    with dsl.Else():
        part_only = join(mode=mode, first="", second="", third="")
    return dsl.OneOf(whole.output, part_only.output)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(file.parent / "root"))
    print(json.dumps(components.load_component_from_file(str(file))(**json.loads(sys.argv[2])).outputs["Output"]))
