"""One of several processes that train together: ``python -m components.student.training.distributed.worker FOLDER``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from components.core.errors import TutorLoopError
from components.student.models.hardware import prepare
from components.student.training.job import LINE, ROWS, Job, read_job, write_failure, write_result

TOLD_EVERY_S = 0.5


class Teller:
    """Tells the process that started the training how it goes.

    Args:
        loud: Whether this is the main process; the others would say the same.
    """

    def __init__(self, loud: bool) -> None:
        self.latest: dict[str, float] = {}
        self._loud = loud
        self._told = 0.0

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        """Print a line, at most every half second."""
        now = time.monotonic()
        if self._loud and (done == total or now - self._told >= TOLD_EVERY_S):
            self._told = now
            print(LINE + json.dumps({"done": done, "total": total, "latest": self.latest}), flush=True)


def end_with_parent() -> None:
    """End this process when the one that started the training is gone: it holds the other end of the standard input."""

    def watch() -> None:
        # The descriptor itself: the buffered reader would hold a lock that the interpreter needs in order to end.
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(folder: Path, job: Job) -> None:
    """Train as one of the processes.

    Raises:
        TutorLoopError: The training failed for a reason that a person can remove.
    """
    options = job.training_options()
    prepare(options)
    import datasets

    from components.student.training.checkpoints import Checkpoints
    from components.student.training.fitting import fit_model

    datasets.disable_progress_bars()
    rows = datasets.load_from_disk(str(folder / ROWS))
    checkpoints = Checkpoints(job.store, job.key, Path(job.folder))
    teller = Teller(_number("RANK") == 0)
    resume = Path(job.resume) if job.resume else None
    outcome = fit_model(job.base, job.fit, rows, options, job.spread, checkpoints, teller, job.output, resume)
    if outcome is not None:
        write_result(folder, outcome)
    _leave()


def _leave() -> None:
    """Wait for the main process, which still saves the model."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _number(name: str) -> int:
    return int(os.environ.get(name, "0"))


def main() -> None:
    """Run the job in the folder that is given; a failure is noted there."""
    folder = Path(sys.argv[1])
    end_with_parent()
    try:
        run(folder, read_job(folder))
    except TutorLoopError as error:
        write_failure(folder, _number("RANK"), error.message, error.hint)
        raise SystemExit(1) from error
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        message = f"training failed: {type(error).__name__}" + (f": {text[0]}" if text else "")
        write_failure(folder, _number("RANK"), message, "see the traceback above")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
