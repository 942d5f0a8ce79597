"""The vLLM engine: the same interface as the transformers engine, for GPU images that carry vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.errors import ModelError
from components.student.generation.interface import Completion, Progress
from components.student.models.chat import Chat
from components.student.models.hardware import quiet
from components.student.models.load import finish_tokenizer, localise, read_info
from components.student.options import GenerationOptions


class VllmEngine:
    """Continuous batching with prefix caching, which lets the samples of a prompt share its prefill."""

    def __init__(self, model: str, options: GenerationOptions) -> None:
        quiet()
        try:
            from vllm import LLM
        except ImportError as error:
            raise ModelError(
                f"the vLLM engine is not in this environment: {error}",
                "run the stage in an image with vLLM, or set engine to transformers",
            ) from error
        folder = localise(model)
        self.info = read_info(folder)
        try:
            self._llm: Any = LLM(model=str(folder), dtype=options.dtype, max_num_seqs=options.batch_size, enable_prefix_caching=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"vLLM does not load {folder}: {error}", "check GPU memory and the model's architecture") from error
        tokenizer = self._llm.get_tokenizer()
        finish_tokenizer(tokenizer, str(folder))
        self._chat = Chat(self.info.chat_format, tokenizer)

    def generate(
        self,
        questions: Sequence[str],
        *,
        seeds: Sequence[Sequence[int]],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """See ``Engine.generate``; every response is a request with its own seed."""
        if not questions:
            return []
        from vllm import SamplingParams

        prompts = self._chat.encode_prompts(questions)
        ends = self._chat.end_ids()
        requests = [{"prompt_token_ids": ids} for ids, row in zip(prompts, seeds, strict=True) for _ in row]
        parameters = [
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=max_new_tokens,
                seed=seed,
                stop=list(self._chat.stop),
                stop_token_ids=ends,
            )
            for row in seeds
            for seed in row
        ]
        outputs = self._llm.generate(requests, parameters, use_tqdm=False)
        flat = [self._completion(output.outputs[0], ends) for output in outputs]
        if progress:
            progress(len(questions))
        copies = len(seeds[0])
        return [flat[start : start + copies] for start in range(0, len(flat), copies)]

    def close(self) -> None:
        """Free the GPU."""
        del self._llm

    @staticmethod
    def _completion(output: Any, ends: list[int]) -> Completion:
        ids = list(output.token_ids)
        if ids and ids[-1] in ends:
            ids.pop()
        return Completion(str(output.text).strip(), len(ids), "stop" if output.finish_reason == "stop" else "length")
