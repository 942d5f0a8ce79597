"""Workflows are read and their failures explained: texts and shapes of a real cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.core.ledger.last_words import LastWords
from pipelines.kubeflow.explain import Failure, failures, last_words, with_last_words
from pipelines.kubeflow.workflow import Workflow, WorkflowError, argument_of, pipeline_of, run_of
from tests.support.argo_workflow import ArgoWorkflow

RUN = "6f1d2c3b-0000-4000-8000-000000000001"
DRIVER_LOG = """I1201 02:00:01.000001       1 main.go:118] Setting log level to: '1'
I1201 02:00:01.500001       1 driver.go:252] parent DAG: id:17
W1201 02:00:02.000001       1 cache.go:31] no cache entry
F1201 02:00:02.123456       1 main.go:127] driver.DAG(pipelineName=orca-math, runID=6f1d, taskName="practice-round-1") failed: rpc error: \
code = AlreadyExists desc = Given event already exists: artifact_id: 12 execution_id: 40 type: INPUT
"""
BUCKET_LOG = """I1201 02:00:01.000001      12 launcher_v2.go:187] publish success.
F1201 02:00:02.123456      12 main.go:52] failed to execute component: failed to get bucket when downloading input artifact records_1 with \
bucket key s3://artifacts: no bucket
time="2025-12-01T02:00:02.200Z" level=info msg="sub-process exited" argo=true error="<nil>"
Error: exit status 1
"""
TASK_LOG = """I1201 02:00:01.000001      12 launcher_v2.go:187] input ComponentSpec:{...}
[KFP Executor 2025-12-01 02:00:01,000 INFO]: Looking for component `build_preferences`
synthesis 10/10
error in preferences: no problem with a right and a wrong response left
  what to do: sample more often, or from a model that is less sure
F1201 02:00:03.000001      12 main.go:52] failed to execute component: exit status 1
time="2025-12-01T02:00:03.200Z" level=info msg="sub-process exited" argo=true error="<nil>"
Error: exit status 1
"""


def broken_driver(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.task("preflight")
    pod = workflow.driver("practice-round-1-driver", workflow.root, "Failed", "main: Error (exit code 1)", shown="Practice round 1")
    workflow.end("Failed", "child 'orca-math-1' failed")
    return {pod: DRIVER_LOG}


def broken_gather(workflow: ArgoWorkflow) -> dict[str, str]:
    practice = workflow.nested("practice-round-1", shown="Practice round 1")
    first, second = workflow.loop(1, 2, practice)
    workflow.task("sample", first)
    workflow.task("sample", second, cached=True)
    pods = workflow.task("gather", practice, *[("Failed", "main: Error (exit code 1)")] * 3)
    workflow.end("Failed")
    return dict.fromkeys(pods, BUCKET_LOG)


def broken_shard(workflow: ArgoWorkflow) -> dict[str, str]:
    practice = workflow.nested("practice-round-1", shown="Practice round 1")
    first, second = workflow.loop(1, 2, practice)
    workflow.task("sample", first, ("Failed", "main: OOMKilled (exit code 137)"), ("Succeeded", ""))
    pods = workflow.task("sample", second, ("Failed", "main: OOMKilled (exit code 137)"), ("Failed", "main: OOMKilled (exit code 137)"))
    workflow.end("Failed")
    return {pods[-1]: "sampling 44/96\n"}


def broken_task(workflow: ArgoWorkflow) -> dict[str, str]:
    pods = workflow.task("build-preferences", "", ("Failed", "main: Error (exit code 1)"))
    workflow.end("Failed")
    return {pods[-1]: TASK_LOG}


def too_long(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.task("preflight")
    workflow.task("sft", "", ("Running", ""))
    text = "workflow is longer than maximum allowed size. compressed size 1051747 > maxSize 1048576"
    workflow.end("Error", text, bubble=False)
    return {}


def terminated(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.task("sft", "", ("Failed", "Step exceeded its deadline"))
    workflow.spec["activeDeadlineSeconds"] = 0
    workflow.end("Failed", "Step exceeded its deadline")
    return {}


def stopped(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.task("sft", "", ("Failed", "workflow shutdown with strategy:  Terminate"))
    workflow.spec["shutdown"] = "Terminate"
    workflow.end("Failed", "Stopped with strategy 'Terminate'")
    return {}


def late(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.spec["activeDeadlineSeconds"] = 3600
    workflow.task("sft", "", ("Failed", "Step exceeded its deadline"))
    workflow.end("Failed")
    return {}


def lost_driver(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.driver("sft-driver", workflow.root, "Error", "pod deleted", container=True)
    workflow.end("Error")
    return {}


def no_image(workflow: ArgoWorkflow) -> dict[str, str]:
    message = (
        'Pod failed before main container starts due to ErrImagePull: rpc error: code = NotFound desc = "x/trainer-python:1": not found'
    )
    workflow.task("sft", "", ("Error", message))
    workflow.end("Error")
    return {}


def silent(workflow: ArgoWorkflow) -> dict[str, str]:
    workflow.end("Error", "", bubble=False)
    return {}


CASES: dict[str, tuple[Callable[[ArgoWorkflow], dict[str, str]], list[str]]] = {
    "A3: one artifact twice": (
        broken_driver,
        [
            "the driver of Practice round 1 failed (pod orca-math-6f1d2-system-dag-driver-",
            "AlreadyExists desc = Given event already exists",
            "under two names",
        ],
    ),
    "F4: partly cached": (
        broken_gather,
        ["Practice round 1 / gather failed (pod", "failed to get bucket", "until all of them come from the cache"],
    ),
    "memory of a shard": (broken_shard, ["Practice round 1 / sample [shard 1] failed", "OOMKilled", "sampling 44/96", "cluster.pods"]),
    "C7: a task's own words": (
        broken_task,
        ["build-preferences failed", "error in preferences: no problem", "what to do: sample more often"],
    ),
    "C1: too long": (too_long, ["the run failed: workflow is longer than", "MAX_WORKFLOW_SIZE", "fewer shards"]),
    "ended in Kubeflow": (terminated, ["it was ended by hand", "start the same run again"]),
    "ended in Argo": (stopped, ["it was ended by hand (Stopped with strategy 'Terminate')"]),
    "a deadline": (late, ["sft failed", "Step exceeded its deadline", "cluster.deadline_s"]),
    "a lost driver": (lost_driver, ["the driver of sft failed", "pod deleted", "its node was lost or drained"]),
    "no image": (no_image, ["sft failed", "ErrImagePull", "the image cannot be pulled"]),
    "nothing is said": (silent, ["the run failed: Argo says Error and no more"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("retries", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_failed_run_is_explained(case: str, retries: bool, packed: bool) -> None:
    build, told = CASES[case]
    workflow = ArgoWorkflow(RUN, retries=retries)
    logs = build(workflow)
    found = failures(workflow.object(packed=packed), lambda pod: logs.get(pod, ""))
    [only] = found
    text = str(only)
    for part in told:
        assert part in text, text
    assert "Setting log level" not in text and "sub-process" not in text and "KFP Executor" not in text
    assert text.count("what to do:") <= 1


def test_a_run_that_is_well_has_no_failures() -> None:
    workflow = ArgoWorkflow(RUN)
    workflow.task("sft", "", ("Error", "pod deleted"), ("Succeeded", ""))
    assert failures(workflow.object(), str) == []
    workflow.end("Succeeded")
    assert failures(workflow.object(), str) == []


def test_what_failed_first_comes_first() -> None:
    workflow = ArgoWorkflow(RUN)
    first, second = workflow.loop(1, 2, workflow.root)
    workflow.task("solve", second, ("Failed", "main: Error (exit code 1)"))
    workflow.task("solve", first, ("Failed", "main: Error (exit code 2)"))
    workflow.end("Failed")
    assert [failure.task for failure in failures(workflow.object(), str)] == ["solve [shard 1]", "solve [shard 0]"]


def test_nodes_that_are_elsewhere_are_said_to_be() -> None:
    given = ArgoWorkflow(RUN).object()
    given["status"] = {"phase": "Failed", "offloadNodeStatusVersion": "fnv:123"}
    with pytest.raises(WorkflowError, match="keeps them in its database"):
        Workflow(given)
    assert "its database" in str(failures(given, str)[0]) and "kubectl get pods" in str(failures(given, str)[0])


def test_packed_nodes_that_are_torn_are_said_to_be() -> None:
    given = ArgoWorkflow(RUN).object(packed=True)
    given["status"]["compressedNodes"] = given["status"]["compressedNodes"][:100]
    with pytest.raises(WorkflowError, match="cannot be read"):
        Workflow(given)


@pytest.mark.parametrize("retries", [True, False])
def test_tasks_and_their_states(retries: bool) -> None:
    workflow = ArgoWorkflow(RUN, retries=retries)
    workflow.task("preflight", shown="Preflight")
    practice = workflow.nested("practice-round-1", shown="Practice round 1")
    first, second = workflow.loop(1, 2, practice)
    workflow.task("sample", first, ("Failed", "main: Error (exit code 1)"), ("Running", ""))
    workflow.task("sample", second, cached=True)
    workflow.driver("promote-driver", workflow.root, container=True)
    workflow.node(
        f"{workflow.root}.promote", "Skipped", "metadata-0-5-system-container-executor", "Skipped", "when 'false != false' evaluated false"
    )
    workflow.driver("report-driver", workflow.root, "Running", container=True)
    read = Workflow(workflow.object())
    states = {task.path: (task.state, task.attempts) for task in read.tasks()}
    assert states == {
        "Preflight": ("done", 1),
        "Practice round 1 / sample [shard 0]": ("retrying", 2),
        "Practice round 1 / sample [shard 1]": ("cached", 0),
        "promote": ("skipped", 0),
        "report": ("preparing", 0),
    }
    assert next(task.pod for task in read.tasks() if task.path == "Preflight").startswith(
        "orca-math-6f1d2-metadata-0-5-retry-system-container-impl-"
    )


def test_whose_workflow_it_is() -> None:
    given = ArgoWorkflow(RUN, pipeline="orca-math-7b", records="s3://other/records").object()
    assert (run_of(given), pipeline_of(given), argument_of(given, "records")) == (RUN, "orca-math-7b", "s3://other/records")
    assert pipeline_of(ArgoWorkflow(RUN, pipeline="").object()) == ""
    assert argument_of({"metadata": {"name": "x"}}, "records") is None


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        ("", ()),
        ("one\ntwo\n", ("one", "two")),
        ("\n".join(map(str, range(30))), tuple(map(str, range(22, 30)))),
        ("I1201 02:00:01.000001       1 a.go:1] x\n", ()),
        ("error: first\nfine again\nerror: second\n  what to do: this\n", ("error: second", "  what to do: this")),
        ("E1201 02:00:01.000001       1 a.go:1] not yet\nF1201 02:00:01.000001       1 a.go:1] the end\n", ("the end",)),
        ("postgres://me:secret@db/x is away\n", ("postgres://[redacted]@db/x is away",)),
    ],
)
def test_the_last_words_of_a_log(log: str, kept: tuple[str, ...]) -> None:
    assert last_words(log) == kept


def words(task: str, error: str, **more: Any) -> LastWords:
    return LastWords(**{"stage": task, "task": task, "error": error, "at": "2025-12-01T02:00:00+00:00", **more})


@pytest.mark.parametrize(
    ("found", "left", "told"),
    [
        (
            [Failure("A / sample [shard 1]", "p", False, "lost")],
            [words("sample", "one", shard="0/2"), words("sample", "two", shard="1/2")],
            ["two"],
        ),
        (
            [Failure("Build preferences", "p", False, "lost")],
            [words("x", "no pair\n  hint", stage="build_preferences")],
            ["no pair", "hint"],
        ),
        ([Failure("sft", "p", False, "lost", ("error: from the log",))], [words("sft", "from the store")], ["error: from the log"]),
        ([Failure("sft", "p", False, "lost")], [words("sft", "")], ["lost"]),
        ([Failure("sft", "p", True, "lost")], [words("sft", "of another attempt")], ["lost", "of another attempt"]),
        ([Failure("", "", False, "too long")], [words("judge", "no teacher")], ["too long", "judge", "no teacher"]),
    ],
)
def test_what_tasks_left_tells_what_logs_do_not(found: list[Failure], left: list[LastWords], told: list[str]) -> None:
    text = "\n".join(map(str, with_last_words(found, left)))
    assert all(part in text for part in told), text
    assert "one" not in told or "two" not in text
    assert "from the store" not in text
