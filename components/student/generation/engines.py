"""Generation behind one interface: the engine that the options name."""

from __future__ import annotations

from components.student.generation.interface import Engine
from components.student.models.hardware import precision, prepare
from components.student.models.load import load_student
from components.student.options import GenerationOptions


def open_engine(model: str, options: GenerationOptions) -> Engine:
    """Load the model into the engine that the options name.

    Args:
        model: Model folder or store URI.
        options: Engine, precision, device, batch size, workers.

    Raises:
        ModelError: The model does not load, or vLLM is asked for and not installed.
    """
    if options.engine == "vllm":
        from components.student.generation.vllm_engine import VllmEngine

        return VllmEngine(model, options)
    from components.student.generation.transformers_engine import TransformersEngine

    device = prepare(options)
    student = load_student(model, device=device, dtype=precision(options.dtype, device))
    return TransformersEngine(student, options)
