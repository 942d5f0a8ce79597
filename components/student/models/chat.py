"""How a question and its answer become the text that the student reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.core.errors import ParameterError

FORMATS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "paper": ("USER:\n{question}\n\nASSISTANT:\n", "{solution}", ("\nUSER:",)),
    "plain": ("Question: {question}\nAnswer:", " {solution}", ("\nQuestion:",)),
}
"""Name to prompt, completion and the texts at which an untrained model has run on into the next question."""


@dataclass(frozen=True)
class Chat:
    """One chat format bound to one tokenizer.

    Prompt and completion are tokenised apart and joined, so that the tokens before a completion are exactly the tokens that
    generation starts from.

    Attributes:
        name: ``paper``, ``template`` or ``plain``.
        tokenizer: A fast tokenizer with an end token.
    """

    name: str
    tokenizer: Any

    def __post_init__(self) -> None:
        if self.name == "template" and not self.tokenizer.chat_template:
            raise ParameterError("student.chat_format", "template", "paper or plain, since this model's tokenizer has no chat template")
        if self.name != "template" and self.name not in FORMATS:
            raise ParameterError("student.chat_format", self.name, "one of paper, template, plain")

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end a response even without an end token."""
        return FORMATS[self.name][2] if self.name in FORMATS else ()

    def prompt(self, question: str) -> str:
        """The text that the student continues."""
        if self.name in FORMATS:
            return FORMATS[self.name][0].format(question=question)
        messages = [{"role": "user", "content": question}]
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def completion(self, question: str, solution: str) -> str:
        """The text that the student should write, without the end token unless the template has its own."""
        if self.name in FORMATS:
            return FORMATS[self.name][1].format(solution=solution)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": solution}]
        whole = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        prompt = self.prompt(question)
        return (whole[len(prompt) :] if whole.startswith(prompt) else solution).rstrip()

    def end_ids(self) -> list[int]:
        """Tokens that end a response: the tokenizer's end token, the model template's end of turn."""
        ends = [int(self.tokenizer.eos_token_id)]
        if self.name == "template":
            last = self._ids([self.completion("1+1?", "2")])[0][-1]
            if last in self.tokenizer.all_special_ids and last not in ends:
                ends.append(int(last))
        return ends

    def encode_prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Token ids of the prompts."""
        ids = self._ids([self.prompt(question) for question in questions])
        start = [] if self.name == "template" else self._start()
        return [start + row for row in ids]

    def encode_completions(self, questions: Sequence[str], solutions: Sequence[str], cut: Sequence[bool] = ()) -> list[list[int]]:
        """Token ids of the completions, each closed by an end token, except those that ``cut`` marks as unfinished."""
        ends = self.end_ids()
        texts = [self.completion(question, solution) for question, solution in zip(questions, solutions, strict=True)]
        rows = [row if row and row[-1] in ends else [*row, ends[0]] for row in self._ids(texts)]
        return [row[:-1] if place < len(cut) and cut[place] else row for place, row in enumerate(rows)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []

    def _start(self) -> list[int]:
        begin = self.tokenizer.bos_token_id
        plain = self.tokenizer("a")["input_ids"]
        return [int(begin)] if begin is not None and plain[0] == begin else []
