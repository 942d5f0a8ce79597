"""Small pipelines for Kubeflow's compiler: each is right, or wrong in one way."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import List, NamedTuple, Optional

from kfp import dsl, kubernetes
from kfp.compiler import Compiler
from kfp.dsl import Dataset, Input, Output

face = dsl.component(base_image="sample-python", install_kfp_package=False)


@face
def make(data: Output[Dataset], other: Output[Dataset], number: int = 0):
    """Two artifacts from nothing."""


@face
def make_three(data: Output[Dataset], other: Output[Dataset], third: Output[Dataset], number: int = 0):
    """Three artifacts from nothing."""


@face
def take(first: Input[Dataset], second: Input[Dataset]):
    """Two artifacts."""


@face
def take_one(first: Input[Dataset], made: Output[Dataset], tag: str = ""):
    """One artifact into another."""


@face
def from_nothing(part: str, made: Output[Dataset]):
    """A shard that takes no artifact."""


@face
def collect(parts: Input[List[Dataset]], beside: Optional[Input[Dataset]] = None):
    """A list."""


@face
def names() -> NamedTuple("Names", [("items", List[str])]):
    """A named list."""


def compiled(build: Callable[..., None], *, name: str = "sample") -> str:
    """Text of the package of a pipeline with this body."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "package.yaml"

        @dsl.pipeline(name=name)
        def sample(parts: List[str] = ["a", "b"], text: str = "", number: int = 0):
            build(parts, text, number)

        Compiler().compile(sample, str(out))
        return out.read_text()


def nested(names_of_inputs: str):
    """A nested pipeline that hands two inputs to one task."""

    @dsl.pipeline(name=f"nested-{names_of_inputs}")
    def inner(left: Input[Dataset], right: Input[Dataset], tag: str = ""):
        take(first=left, second=right)

    return inner


class Pair(NamedTuple):
    one: Dataset
    two: Dataset


def giving(one: str, two: str):
    """A nested pipeline that gives out two outputs of one task."""

    @dsl.pipeline(name=f"giving-{one}-{two}")
    def inner(tag: str = "") -> Pair:
        made = make()
        return Pair(made.outputs[one], made.outputs[two])

    return inner


SAME, BOTH, DIFFERENT = nested("same"), nested("both"), nested("different")
ONE_TWICE, TWO = giving("data", "data"), giving("data", "other")


@dsl.pipeline(name="artifacts-only")
def artifacts_only(left: Input[Dataset]):
    """Takes nothing else."""
    take_one(first=left)


@dsl.pipeline(name="branches")
def branches(tag: str) -> Dataset:
    """Gives out what one of two branches made."""
    with dsl.If(tag == "x"):
        one = make(number=1)
    with dsl.Else():
        two = make(number=2)
    return dsl.OneOf(one.outputs["data"], two.outputs["data"])


@dsl.pipeline(name="collecting")
def collecting(source: Input[Dataset], parts: List[str]) -> List[Dataset]:
    """Gives out the artifacts of a loop."""
    with dsl.ParallelFor(parts) as part:
        shard = take_one(first=source, tag=part)
    return dsl.Collected(shard.outputs["made"])


def twice(parts, text, number):
    made = make()
    take(first=made.outputs["data"], second=made.outputs["data"])


def twice_to_a_nested_pipeline(parts, text, number):
    made = make()
    SAME(left=made.outputs["data"], right=made.outputs["data"], tag=text)


def twice_out_of_a_nested_pipeline(parts, text, number):
    made = ONE_TWICE(tag=text)
    take(first=made.outputs["one"], second=made.outputs["two"])


def twice_out_of_and_into(parts, text, number):
    made = ONE_TWICE(tag=text)
    BOTH(left=made.outputs["one"], right=made.outputs["two"], tag=text)


def twice_under_a_condition(parts, text, number):
    made = make()
    with dsl.If(text == "x"):
        take(first=made.outputs["data"], second=made.outputs["data"])


def two_that_differ(parts, text, number):
    made = TWO(tag=text)
    take(first=made.outputs["one"], second=made.outputs["two"])
    DIFFERENT(left=made.outputs["one"], right=made.outputs["two"], tag=text)


def two_of_one_component(parts, text, number):
    take(first=make(number=1).outputs["data"], second=make(number=2).outputs["data"])


def sharded(beside: str = "", *, cached: bool = True, chained: bool = False, without: bool = False) -> Callable[..., None]:
    """A loop whose artifacts are collected, with or without what opens the store."""

    def build(parts, text, number):
        made = make()
        with dsl.ParallelFor(parts) as part:
            shard = from_nothing(part=part) if without else take_one(first=made.outputs["data"], tag=part)
            shard.set_caching_options(cached)
            if chained:
                shard = take_one(first=shard.outputs["made"])
        artifacts = {"source": made.outputs["data"], "unrelated": made.outputs["other"]}
        collect(parts=dsl.Collected(shard.outputs["made"]), **({"beside": artifacts[beside]} if beside else {}))

    return build


def collected_in_a_nested_pipeline(beside: bool) -> Callable[..., None]:
    """The same, where loop and source lie in different layers."""

    def build(parts, text, number):
        made = make()
        collected = collecting(source=made.outputs["data"], parts=parts)
        collect(parts=collected.output, **({"beside": made.outputs["data"]} if beside else {}))

    return build


def loop_over_a_named_output(parts, text, number):
    with dsl.ParallelFor(names().outputs["items"]) as part:
        from_nothing(part=part)


def loop_in_an_exit_handler(parts, text, number):
    with dsl.ExitHandler(make()), dsl.ParallelFor(parts) as part:
        from_nothing(part=part)


def importer_in_a_loop(parts, text, number):
    with dsl.ParallelFor(parts) as part:
        take_one(first=dsl.importer(artifact_uri="s3://bucket/file", artifact_class=Dataset).output, tag=part)


def only_artifacts_for_a_nested_pipeline(parts, text, number):
    artifacts_only(left=make().outputs["data"])


def one_of_two_branches(parts, text, number):
    take_one(first=branches(tag=text).output)


def with_cache_key(parts, text, number):
    make().set_caching_options(True, cache_key="mine")


def chain(length: int) -> Callable[..., None]:
    """Tasks one after the other in the first view."""

    def build(parts, text, number):
        last = make().outputs["data"]
        for _ in range(length - 1):
            last = take_one(first=last).outputs["made"]

    return build


def one_box(parts, text, number):
    TWO(tag=text)


def many_artifacts(parts, text, number):
    for index in range(7):
        make_three(number=index)


def pod(configure: Callable[..., None]) -> Callable[..., None]:
    """A task with settings of its pod."""

    def build(parts, text, number):
        configure(make(), text, number)
        make(number=2)

    return build


def number_as_resource(task, text, number):
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(number)


def text_as_resource(task, text, number):
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(text)


def request_above_limit(task, text, number):
    task.set_memory_request("2Gi").set_memory_limit("1500Mi")


def request_equal_to_limit(task, text, number):
    task.set_memory_request("2Gi").set_memory_limit("2048Mi").set_cpu_request("500m").set_cpu_limit("1")


def needed_secret(task, text, number):
    kubernetes.use_secret_as_env(task, "keys", {"key": "KEY"})


def optional_secret(task, text, number):
    kubernetes.use_secret_as_env(task, "keys", {"key": "KEY"}, optional=True)


def root_user(task, text, number):
    kubernetes.set_security_context(task, run_as_user=0)


def odd_volume(task, text, number):
    kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/shm", size_limit="2 GB")


def long_label(task, text, number):
    kubernetes.add_pod_label(task, "example.org/stage", "x" * 64)


def retried(times: int):
    """A pipeline of two tasks, of which one has further attempts."""

    def build(parts, text, number):
        make(number=number)
        if times:
            names().set_retry(times, backoff_duration="1s", backoff_factor=2.0, backoff_max_duration="60s")
        else:
            names()

    return build
