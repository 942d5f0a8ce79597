"""As ``components.student.training.distributed.worker``, with no memory left in the second process."""

from __future__ import annotations

import os
from typing import Any

from components.student.models.hardware import quiet
from components.student.training.distributed import worker as rank


def main() -> None:
    """Run the job."""
    quiet()
    from components.student.training.trl_trainers import EncodedSFTTrainer

    def cramped(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    if os.environ["RANK"] == "1":
        EncodedSFTTrainer.training_step = cramped
    rank.main()


if __name__ == "__main__":
    main()
