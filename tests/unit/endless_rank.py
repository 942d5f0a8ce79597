"""As ``components.student.rank``, with a training that neither ends nor says anything."""

from __future__ import annotations

import time
from pathlib import Path

from components.student import rank
from components.student.job import Job


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
