"""As ``components.student.training.distributed.worker``, with a training that neither ends nor says anything."""

from __future__ import annotations

import time
from pathlib import Path

from components.student.training.distributed import worker as rank
from components.student.training.job import Job


def endless(folder: Path, job: Job) -> None:
    """Go on for ever."""
    while True:
        time.sleep(60)


def main() -> None:
    """Run the job."""
    rank.run = endless
    rank.main()


if __name__ == "__main__":
    main()
