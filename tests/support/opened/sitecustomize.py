"""Put on the path of a run, this notes which files of the repository each task opens: Python imports it by its name in every process.

A task's own processes inherit its name. One line for each file and process: the KFP function, a tabulator, the path below the repository.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TASK = "TUTORLOOP_TEST_TASK"
NOTES = os.environ.get("TUTORLOOP_TEST_OPENED", "")
ROOT = str(Path(__file__).resolve().parents[3]) + os.sep
FOLDERS = (ROOT + "components" + os.sep, ROOT + "pipelines" + os.sep)
_seen: set[str] = set()


def _note(event: str, arguments: tuple[object, ...]) -> None:
    path = arguments[0] if event == "open" and arguments else None
    if not isinstance(path, str) or not path.startswith(FOLDERS) or path in _seen:
        return
    _seen.add(path)
    task = os.environ.get(TASK) or _task()
    if task:
        descriptor = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{task}\t{path.removeprefix(ROOT)}\n".encode())
        os.close(descriptor)


def _task() -> str:
    """The KFP function that this process runs; empty for none. Its arguments are there only after this file has been imported."""
    words = list(getattr(sys, "argv", []))
    if "--function_to_execute" in words:
        os.environ[TASK] = words[words.index("--function_to_execute") + 1]
    return os.environ.get(TASK, "")


if NOTES:
    sys.addaudithook(_note)
