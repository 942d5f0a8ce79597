"""As ``components.student.training.distributed.worker``, with the second process killed at the end of its fifth step."""

from __future__ import annotations

import os
import signal

from components.student.training.distributed import worker as rank


class KilledTeller(rank.Teller):
    """Tells of four steps and no more."""

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        """End the process at the fifth step."""
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        super().progress(done, total, unit, force)


def main() -> None:
    """Run the job."""
    if os.environ["RANK"] == "1":
        rank.Teller = KilledTeller  # type: ignore[misc]
    rank.main()


if __name__ == "__main__":
    main()
