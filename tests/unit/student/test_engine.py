"""Generation: the same samples alone, in any batch and in worker processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.errors import ModelError
from components.student.generation.engines import open_engine
from components.student.generation.interface import Completion
from components.student.generation.sampler import sample_seed
from components.student.generation.transformers_engine import TransformersEngine
from components.student.models.load import load_student
from components.student.options import GenerationOptions
from tests.support.student_material import make_model, word_problems

QUESTIONS = [problem.question for problem in word_problems(14)]
SEEDS = [[sample_seed(3, row, index) for index in range(3)] for row in range(len(QUESTIONS))]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def sample(engine: Any, rows: list[int], temperature: float = 0.9) -> list[list[Completion]]:
    found: list[list[Completion]] = engine.generate(
        [QUESTIONS[row] for row in rows], seeds=[SEEDS[row] for row in rows], temperature=temperature, top_p=0.95, max_new_tokens=24
    )
    return found


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (7, 1), (64, 2)])
def test_samples_do_not_depend_on_the_batch_or_the_workers(folder: Path, batch_size: int, workers: int) -> None:
    rows = list(range(len(QUESTIONS)))
    together = sample(open_engine(str(folder), GenerationOptions(batch_size=512)), rows)
    engine = open_engine(str(folder), GenerationOptions(batch_size=batch_size, workers=workers))
    other = sample(engine, rows[::-1])[::-1]
    engine.close()
    assert other == together
    assert sample(engine, [5]) == [together[5]]
    texts = {item.text for row in together for item in row}
    assert len(texts) > len(QUESTIONS)


def test_greedy_agrees_with_transformers_own_generate(folder: Path) -> None:
    engine = open_engine(str(folder), GenerationOptions())
    student = load_student(folder, device=CPU, dtype=torch.float32)
    for question, [mine] in zip(
        QUESTIONS, engine.generate(QUESTIONS, seeds=[[0]] * len(QUESTIONS), temperature=0, top_p=1, max_new_tokens=24), strict=True
    ):
        ids = torch.tensor(student.chat.encode_prompts([question]))
        out = student.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        tokens = out[0, ids.shape[1] :].tolist()
        ended = tokens[-1] == student.tokenizer.eos_token_id
        text = student.tokenizer.decode(tokens, skip_special_tokens=True).split("\nQuestion:")[0].strip()
        assert mine == Completion(text, len(tokens) - ended, "stop" if ended else "length")


def test_tokens_are_written_at_their_places(folder: Path) -> None:
    """With sharp attention the next token depends on how far away the others are, in a batch with shorter prompts too."""
    student = load_student(folder, device=CPU, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            weight.mul_(12.0 if "q_proj" in name or "k_proj" in name else 3.0 if "_proj" in name else 1.0)
    engine = TransformersEngine(student, GenerationOptions())
    rows = engine.generate(QUESTIONS, seeds=[[0]] * len(QUESTIONS), temperature=0, top_p=1, max_new_tokens=24)
    for question, [mine] in zip(QUESTIONS, rows, strict=True):
        ids = torch.tensor(student.chat.encode_prompts([question]))
        out = student.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        text = student.tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
        assert mine.text == text.split("\nQuestion:")[0].strip()
    assert len({mine.text for [mine] in rows}) > 1


class Cramped(torch.nn.Module):  # type: ignore[misc]
    """A model on a machine that has memory for so many sequences only."""

    def __init__(self, inner: Any, rows: int) -> None:
        super().__init__()
        self.inner, self.rows, self.refused = inner, rows, 0
        self.config, self.device = inner.config, inner.device

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if len(input_ids) > self.rows:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        return self.inner(input_ids=input_ids, **kwargs)


def test_batches_are_halved_until_they_fit(folder: Path) -> None:
    student = load_student(folder, device=CPU, dtype=torch.float32)
    rows = list(range(6))
    wanted = sample(TransformersEngine(student, GenerationOptions(batch_size=512)), rows)
    cramped = Cramped(student.model, 2)
    engine = TransformersEngine(dataclasses.replace(student, model=cramped), GenerationOptions(batch_size=512))
    assert sample(engine, rows) == wanted
    assert cramped.refused
    hopeless = TransformersEngine(dataclasses.replace(student, model=Cramped(student.model, 0)), GenerationOptions())
    with pytest.raises(ModelError, match="max_new_tokens"):
        sample(hopeless, rows)


def test_other_errors_are_not_taken_for_a_lack_of_memory(folder: Path) -> None:
    student = load_student(folder, device=CPU, dtype=torch.float32)
    engine = TransformersEngine(student, GenerationOptions())
    student.model.model.embed_tokens = torch.nn.Embedding(4, 32)
    with pytest.raises(IndexError):
        sample(engine, [0])


def test_a_stop_text_ends_a_response(folder: Path) -> None:
    """The model is made to write the same token for ever; its text is declared a stop text."""
    student = load_student(folder, device=CPU, dtype=torch.float32)
    [token] = student.tokenizer("7", add_special_tokens=False)["input_ids"]

    class Endless(Cramped):
        steps = 0

        def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            self.steps += 1
            out = self.inner(input_ids=input_ids, **kwargs)
            out.logits[..., token] = 1e4
            return out

    class Stopping(type(student.chat)):  # type: ignore[misc]
        stop = ("777",)

    endless = Endless(student.model, 99)
    chat = Stopping("plain", student.tokenizer)
    engine = TransformersEngine(dataclasses.replace(student, model=endless, chat=chat), GenerationOptions())
    [[completion]] = engine.generate(["x"], seeds=[[1]], temperature=0.7, top_p=0.95, max_new_tokens=200)
    assert (completion.text, completion.finish) == ("", "stop")
    assert endless.steps < 20


def test_responses_cut_by_the_limit_say_so(folder: Path) -> None:
    engine = open_engine(str(folder), GenerationOptions())
    seen: list[int] = []
    rows = engine.generate(QUESTIONS, seeds=SEEDS, temperature=1.0, top_p=1.0, max_new_tokens=3, progress=seen.append)
    assert all(item.tokens <= 3 for row in rows for item in row)
    assert any(item.finish == "length" and item.tokens == 3 for row in rows for item in row)
    assert seen[-1] == len(QUESTIONS)
    assert engine.generate([], seeds=[], temperature=1.0, top_p=1.0, max_new_tokens=3) == []


def test_vllm_without_vllm_says_what_to_do(folder: Path) -> None:
    with pytest.raises(ModelError, match="set engine to transformers"):
        open_engine(str(folder), GenerationOptions(engine="vllm"))
