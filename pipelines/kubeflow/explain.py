"""Says why a run failed: where, in which words, and what to do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.ledger.last_words import LastWords
from components.core.redaction import redact
from pipelines.kubeflow.workflow import Node, Workflow, WorkflowError, name_of, phase_of

MOST_LINES = 8
_START_AGAIN = "start the same run again: what is done comes from the cache"

HINTS: tuple[tuple[str, str], ...] = (
    (
        r"longer than maximum allowed size|Request entity too large|etcdserver: request is too large",
        "the run has outgrown one object of Kubernetes: raise MAX_WORKFLOW_SIZE of the workflow-controller, or compile with fewer shards "
        f"or rounds; then {_START_AGAIN}",
    ),
    (
        r"Given event already exists|AlreadyExists",
        "the pipeline gives one artifact to a task under two names, or its driver ran twice: compile it with this version of TutorLoop and "
        "start it again",
    ),
    (
        r"failed to get bucket when downloading input artifact",
        "some of its inputs came from the cache and others not: compile the pipeline with this version of TutorLoop, or "
        "start the run again until all of them come from the cache",
    ),
    (r"exit code 137|OOMKilled", "it was killed, most likely for memory: give its kind of pod more (cluster.pods), "
     "and start the run again"),
    (r"ImagePullBackOff|ErrImagePull|InvalidImageName", "the image cannot be pulled: push it, or load it into the cluster's nodes"),
    (
        r"exceeded quota|forbidden: (exceeded|maximum|failed quota)|Insufficient",
        "the namespace has no room for it: raise its quota (manifests/base/kubeflow/limits.yaml) or ask for less (cluster.pods)",
    ),
    (
        r"pod deleted|[Ee]victed|NodeLost|node is not ready|Preempt|node shutdown|imminent node|TerminationByKubelet",
        f"its node was lost or drained; {_START_AGAIN}",
    ),
    (r"[Dd]eadline|DeadlineExceeded|[Mm]ax duration", "it took longer than it may: raise cluster.deadline_s, "
     "the timeout_s of its kind of pod, or cluster.retry.within"),
)  # fmt: skip
"""Pattern in what a failure says, and what to do about it."""

STOPPED = r"Stopped with strategy|workflow shutdown|Step exceeded its deadline|exceeded its deadline|[Tt]erminated"
"""What Argo says of the nodes of a workflow that is ended from outside."""

_KLOG = re.compile(r"(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [^\s\]]+:\d+\] ?(?P<text>.*)")
_NOISE = re.compile(r'time="?[^"]*"? level=|time=\S+ level=|Error: exit status \d+$|goroutine \d+|exit status \d+$')
_OURS = re.compile(r"error(:| in )")


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong.

    Attributes:
        task: What the task is called, with the nested pipelines that it is in; empty for the workflow itself.
        pod: Its last pod; empty where there was none.
        driver: Whether not the task failed, but Kubeflow's driver that prepares it.
        message: Argo's reason.
        last_lines: What the pod said last.
        hint: What to do about it; empty where only the words help.
    """

    task: str
    pod: str
    driver: bool
    message: str
    last_lines: tuple[str, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        what = f"the driver of {self.task}" if self.driver else self.task or "the run"
        where = f" (pod {self.pod})" if self.pod else ""
        lines = [f"{what} failed{where}: {self.message or 'no reason is given'}", *(f"    {line}" for line in self.last_lines)]
        # Our own errors say themselves what to do.
        if self.hint and not any("what to do:" in line for line in self.last_lines):
            lines.append(f"  what to do: {self.hint}")
        return "\n".join(lines)


def failures(workflow: Mapping[str, Any], log_of: Callable[[str], str]) -> list[Failure]:
    """What went wrong in a workflow, first things first; nothing for one that is well.

    Args:
        workflow: The object, as the Kubernetes API has it.
        log_of: The end of the log of a pod's main container; empty where there is none any more.
    """
    phase = phase_of(workflow)
    try:
        read = Workflow(workflow)
    except WorkflowError as error:
        message = str((workflow.get("status") or {}).get("message") or "")
        return [Failure("", "", False, message or f"{name_of(workflow)} is {phase}", (error.message,), hint_for(message) or error.hint)]
    found = [_failure(read, node, log_of) for node in first_failed(read)]
    if read.ended_by_hand and (phase not in ("Succeeded", "Running", "Pending")):
        return [Failure("", "", False, f"it was ended by hand ({read.message or phase})", (), _START_AGAIN)]
    if phase in ("Failed", "Error") and (not found or _is_its_own(read.message)):
        found.insert(0, Failure("", "", False, read.message or f"Argo says {phase} and no more", (), hint_for(read.message)))
    return found


def first_failed(workflow: Workflow) -> list[Node]:
    """The nodes that failed by themselves, the first one first: not those that they lie in, nor attempts that were made good."""
    broken = [node for node in workflow.nodes.values() if node.broken]
    names = {node.name for node in broken}
    inner = {outer for name in names for outer in _outer(name)}
    own = [node for node in broken if node.name not in inner and _for_good(workflow, node)]
    return sorted(own, key=lambda node: (bool(re.search(STOPPED, node.message)), node.finished or float("inf"), node.name))


def hint_for(text: str) -> str:
    """What to do about a failure that says this; empty where nothing is known."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, text)), "")


def last_words(log: str, *, most: int = MOST_LINES) -> tuple[str, ...]:
    """The lines of a log that say why it ended.

    An error of ours is kept from its beginning; of Kubeflow's programs, what they log as an error; else the last lines that are no
    mere progress.

    Args:
        log: The end of a log.
        most: Lines at most.
    """
    said, errors = [], []
    for line in log.splitlines():
        klog = _KLOG.match(line)
        if klog and klog["level"] in "EF":
            errors.append(klog["text"].strip())
        elif not klog and line.strip() and not _NOISE.match(line.strip()):
            said.append(line.rstrip())
    ours = [number for number, line in enumerate(said) if _OURS.match(line)]
    if ours:
        kept: Sequence[str] = said[ours[-1] :][:most]
    elif errors:
        # Text without a head belongs to the line before it, or is an answer that the error quotes.
        kept = errors[-1:]
    else:
        kept = said[-most:]
    return tuple(str(redact(line))[:1_000] for line in kept)


def with_last_words(found: Sequence[Failure], words: Sequence[LastWords]) -> list[Failure]:
    """The failures, with what their tasks left in the run's record where their logs are gone.

    Args:
        found: As :func:`failures` gives them.
        words: What failed attempts of the run's tasks left; those with an empty error were made good.
    """
    left = sorted((item for item in words if item.error), key=lambda item: item.at, reverse=True)
    result = []
    for failure in found:
        own = next((item for item in left if not failure.driver and failure.task and _belongs(item, failure.task)), None)
        if own:
            left.remove(own)
        if own and not any(_OURS.match(line) for line in failure.last_lines):
            failure = dataclasses.replace(failure, last_lines=tuple(own.error.splitlines()[:MOST_LINES]))
        result.append(failure)
    if left and not any(failure.last_lines for failure in result):
        newest = left[0]
        shard = "" if newest.shard == "0/1" else f" [shard {newest.shard}]"
        result.append(
            Failure(newest.task + shard, "", False, f"in its own words, at {newest.at}", tuple(newest.error.splitlines()[:MOST_LINES]))
        )
    return result


def _belongs(words: LastWords, task: str) -> bool:
    name, _, shard = task.rpartition(" / ")[2].partition(" [shard ")
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    named = {re.sub(r"[^a-z0-9]", "", text.lower()) for text in (words.task, words.stage)}
    return plain in named and (not shard or words.shard.partition("/")[0] == shard.rstrip("]"))


def _failure(workflow: Workflow, node: Node, log_of: Callable[[str], str]) -> Failure:
    pod = workflow.pod(node) if node.type == "Pod" else ""
    lines = last_words(log_of(pod)) if pod else ()
    hint = hint_for("\n".join([node.message, *lines]))
    if not hint and node.is_driver:
        hint = f"a driver is not tried again; {_START_AGAIN}"
    return Failure(workflow.path(node) or "the pipeline", pod, node.is_driver, node.message, lines, hint)


def _outer(name: str) -> Iterator[str]:
    """Names of the nodes that a node lies in, or is an attempt at."""
    for found in re.finditer(r"[.(]", name):
        yield name[: found.start()]


def _for_good(workflow: Workflow, node: Node) -> bool:
    """Whether neither this node nor one that it lies in was tried again."""
    for found in re.finditer(r"\((\d+)\)(?=\.|$)", node.name):
        retried = workflow.nodes.get(node.name[: found.start()])
        if retried is not None and retried.type == "Retry":
            last = len(workflow.attempts(retried)) - 1
            if int(found[1]) != last or not retried.broken:
                return False
    return True


def _is_its_own(message: str) -> bool:
    """Whether a workflow's message tells more than that of the node that failed."""
    return bool(re.search(HINTS[0][0], message))
