"""A process of several that runs one training after another: each start of Python with torch costs seconds.

Run as ``components.student.training.distributed.worker`` is, with a folder whose subfolders each hold a job.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from components.student.training.distributed import worker as rank
from components.student.training.job import read_job, write_failure


def main() -> None:
    """Run the job of every subfolder; what fails is noted there, and the next one runs."""
    rank.end_with_parent()
    leave, rank._leave = rank._leave, lambda: None
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        try:
            rank.run(folder, read_job(folder))
        except Exception as error:
            traceback.print_exc()
            write_failure(folder, int(os.environ["RANK"]), repr(error), "")
            raise SystemExit(1) from error
    leave()


if __name__ == "__main__":
    main()
