"""The KFP component of the preflight, which takes every parameter of a run; imported only at compile time.

KFP runs the source of a function, and takes its inputs from that: so the function is written from the method's sections.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
from kfp import dsl
from kfp.dsl import PipelineTask

from components.core.images import SYNC
from components.core.options import Options
from pipelines.parts.graphs import inputs_of
from pipelines.parts.task_settings import TaskSettings

if TYPE_CHECKING:
    from pipelines.methods.method import Method

SOURCE = """def preflight({inputs}):
    given = dict(locals())
    from components.core.stage import stage_run
    from pipelines.control.preflight import run

    with stage_run("preflight", records=records):
        run(given)
"""
BUILT: dict[str, Any] = {"method": str, "shape": dict, "cluster": dict, "launchers": list}
"""What the pipeline was compiled with: the method and the shape of its graph, settings of tasks, sections of trainings that several nodes
share."""


def preflight_component(method: Method) -> Any:
    """The component: checks parameters, teacher, stores, secrets and GPU quota before anything expensive starts, and opens the run's
    record.

    Args:
        method: Whose sections it checks.
    """
    inputs = inputs_of(list(method.sections), shards=method.shards) | BUILT
    text = SOURCE.format(inputs=", ".join(f"{name}: {_base(kind)}" for name, kind in inputs.items()))
    file = f"<preflight of {method.name}>"
    # Where the inspect module, through which KFP reads the source, looks for what is in no file.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(text, file, "exec", dont_inherit=True), namespace)  # noqa: S102
    return dsl.component(base_image=SYNC, install_kfp_package=False)(namespace["preflight"])


def _base(kind: Any) -> str:
    """The name of a type without what it holds, which KFP does not look at."""
    return str(getattr(kind, "__origin__", kind).__name__)


def checked_first(method: Method, shape: Options, settings: TaskSettings, given: SimpleNamespace) -> PipelineTask:
    """The preflight as the first task of a pipeline.

    Args:
        method: Method of the pipeline.
        shape: What the graph looks like.
        settings: Settings of the pipeline's tasks.
        given: The pipeline's inputs.
    """
    compiled_in: Mapping[str, Any] = {name: value for name, value in msgspec.to_builtins(shape).items() if name not in method.shards}
    task = preflight_component(method)(
        **vars(given),
        method=method.name,
        shape=compiled_in,
        cluster=msgspec.to_builtins(settings.cluster),
        launchers=sorted(settings.launchers),
    )
    return settings.configure(
        task,
        "Preflight",
        "control",
        cached=False,
        retried=False,
        # With the keys of the task that comes last: what they lack would show after everything is paid for.
        publishes=True,
        asks_teacher=True,
    )
