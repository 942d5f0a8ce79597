"""Quiet libraries, threads, device and precision: the settings every torch stage begins with."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from components.core.errors import ParameterError

if TYPE_CHECKING:
    from components.student.options import ComputeOptions

BILLION = 1_000_000_000
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "DATASETS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    # Threads that wait by spinning make two threads five times slower than one as soon as anything else wants a core.
    "GOMP_SPINCOUNT": "1000",
}


def quiet() -> None:
    """Silence telemetry, progress bars and chatter, and let idle threads sleep; what the caller has set in the environment stays.

    Must run before torch, transformers or TRL are imported.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # They concern calls that one of these libraries makes to another.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\.")


def prepare(options: ComputeOptions) -> Any:
    """Set threads and return the ``torch.device`` to compute on.

    Raises:
        ParameterError: ``cuda`` was asked for where there is none.
    """
    quiet()
    import torch

    torch.set_num_threads(options.threads)
    available = torch.cuda.is_available()
    if options.device == "cuda" and not available:
        raise ParameterError(options.full_name("device"), "cuda", "auto or cpu, since torch sees no GPU here")
    return torch.device("cuda" if available and options.device != "cpu" else "cpu")


def precision(name: str, device: Any) -> Any:
    """The ``torch.dtype`` for computing with a model; ``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that the GPU or the machine has no memory left for a tensor."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
