"""What every task of a pipeline is given, in one place."""

from __future__ import annotations

from kfp import dsl

RETRIES = 2
"""Further attempts of a task that was killed, lost its node or its services; it goes on where it was."""
FIRST_WAIT = "2s"
FURTHER_WAIT = 5.0
"""Factor from one wait to the next."""
LONGEST_WAIT = "600s"


def configure(task: dsl.PipelineTask, display_name: str, *, cached: bool = True) -> dsl.PipelineTask:
    """Name a task for the Kubeflow UI and let it be tried again.

    Args:
        task: Of a stage, not a nested pipeline.
        display_name: Shown in the graph.
        cached: False for a task that looks at the world outside, and must look anew in every run.

    Returns:
        The task.
    """
    task.set_display_name(display_name).set_caching_options(cached)
    return task.set_retry(RETRIES, backoff_duration=FIRST_WAIT, backoff_factor=FURTHER_WAIT, backoff_max_duration=LONGEST_WAIT)
