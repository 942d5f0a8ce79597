"""Several processes of one machine train together, started by ``accelerate launch``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ModelError
from components.student.training.job import LINE, Job, as_error, read_failures

ENDED = re.compile(r"\(exitcode: (-?\d+)\) local_rank: (\d+)")
"""What torch's agent says about a process that ended by itself. It names one: of several that ended in the same second, any of them."""
OF_TABLE = re.compile(r" +(time|host|rank|exitcode) *: ")
ROW = re.compile(r"time *: (\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d)\n +host.*\n +rank *: \d+ \(local_rank: (\d+)\)\n +exitcode *: (-?\d+) \(pid")
"""What it says in the end about each of them, and about those that it has ended itself because of these."""
TOGETHER_S = 15
"""A process that was killed later than the first ended by so much was killed by the agent, which gives the others 30 s."""
TAIL = 40


@dataclass(frozen=True)
class Place:
    """This machine's place among the nodes of a training.

    Attributes:
        number: Number of this node, from 0.
        address: Address of node 0.
        port: Port of node 0; 0 takes a free one, which only a single node can.
    """

    number: int = 0
    address: str = "127.0.0.1"
    port: int = 0


def command(folder: Path, job: Job, place: Place) -> list[str]:
    """The command that starts this node's processes."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2"]
    launcher += ["--num_processes", str(job.local * job.nodes), "--num_machines", str(job.nodes), "--machine_rank", str(place.number)]
    launcher += ["--main_process_ip", place.address, "--main_process_port", str(place.port), "--same_network"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--num_cpu_threads_per_process", str(job.options["threads"])]
    return [*launcher, "--module", "components.student.training.distributed.worker", str(folder)]


def run(folder: Path, job: Job, tell: Callable[[dict[str, Any]], None], place: Place | None = None) -> None:
    """Start this node's processes and wait for them.

    Args:
        folder: Holds the job; results and failures are written there.
        job: The job.
        tell: Called with ``done``, ``total`` and ``latest`` as the training goes on; on node 0 only.
        place: This node's place; None for a single node.

    Raises:
        ModelError: A process failed or was killed; says which and why.
    """
    place = place or Place()
    root = str(Path(__file__).resolve().parents[4])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # accelerate keeps a user's own settings there, which are not part of the job.
    environment = {**os.environ, "PYTHONPATH": path, "HF_HOME": str(folder / "hub"), "PYTHONUNBUFFERED": "1"}
    if job.options["device"] == "cpu":
        # torch would shard over GPUs that it sees.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # The processes read from this pipe and end when it closes: none outlives this one, whatever kills it.
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            command(folder, job, place), stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        os.close(reading)
        said, ended = _follow(process, tell)
        status = process.wait()
    finally:
        os.close(writing)
    if status:
        raise _failure(folder, job, place, said, ended)


def _follow(process: subprocess.Popen[str], tell: Callable[[dict[str, Any]], None]) -> tuple[list[str], list[tuple[int, int]]]:
    """Pass on what the processes say; gives back its last lines, and status and number of each process that ended badly."""
    said: deque[str] = deque(maxlen=TAIL)
    ended: list[tuple[int, int]] = []
    table: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(LINE):
            tell(json.loads(line.removeprefix(LINE)))
            continue
        said.append(line.rstrip())
        ended += [(int(status), int(number)) for status, number in ENDED.findall(line)]
        if OF_TABLE.match(line):
            table.append(line)
        print(line, end="", flush=True)
    return list(said), ended + _killed_from_outside(table)


def _killed_from_outside(table: list[str]) -> list[tuple[int, int]]:
    """Status and number of the processes in the agent's table that neither it nor they themselves have ended."""
    rows = [
        (time.mktime(time.strptime(at, "%Y-%m-%d_%H:%M:%S")), int(status), int(number))
        for at, number, status in ROW.findall("".join(table))
    ]
    first = min((at for at, _, _ in rows), default=0.0)
    return [(status, number) for at, status, number in rows if status == -signal.SIGKILL and at - first < TOGETHER_S]


def _failure(folder: Path, job: Job, place: Place, said: list[str], ended: list[tuple[int, int]]) -> ModelError:
    processes = job.local * job.nodes
    killed = [(-status, number) for status, number in ended if status < 0]
    noted = read_failures(folder)
    # The others end by SIGTERM, or abort, once one is gone; what they note is a consequence.
    causes = [(by, number) for by, number in killed if by not in (signal.SIGTERM, signal.SIGABRT)]
    if causes or (killed and not noted):
        by, number = (causes or killed)[0]
        return ModelError(
            f"training {job.name}: process {place.number * job.local + number} of {processes} was killed by {signal.Signals(by).name}",
            "run again: the training continues from its last checkpoint; if it was killed for want of memory, give the task more",
        )
    if noted:
        return as_error(noted[0], processes)
    return ModelError(f"training {job.name} with {processes} processes failed:\n" + "\n".join(said), "see the lines above")
