"""Chat formats and encoded rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ParameterError
from components.student.models.chat import Chat
from components.student.models.tiny import build_tokenizer
from components.student.training.rows import arrange, encode_rows, sft_columns
from tests.support.student_material import demonstrations

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|done|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = build_tokenizer([row.question + row.solution for row in demonstrations(40)], 400)
    made.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|done|>"]})
    made.chat_template = TEMPLATE
    return made


@pytest.mark.parametrize(
    ("name", "prompt", "completion"),
    [
        ("paper", "USER:\nHow many?\n\nASSISTANT:\n", "Four."),
        ("plain", "Question: How many?\nAnswer:", " Four."),
        ("template", "<|user|>\nHow many?<|done|>\n<|assistant|>\n", "Four.<|done|>"),
    ],
)
def test_formats(tokenizer: Any, name: str, prompt: str, completion: str) -> None:
    chat = Chat(name, tokenizer)
    assert chat.prompt("How many?") == prompt
    assert chat.completion("How many?", "Four.") == completion
    [prompt_ids], [completion_ids] = chat.encode_prompts(["How many?"]), chat.encode_completions(["How many?"], ["Four."])
    assert tokenizer.decode(prompt_ids) == prompt
    assert completion_ids[-1] in chat.end_ids()
    assert tokenizer.decode(completion_ids[:-1]).startswith(completion.removesuffix("<|done|>"))
    assert completion_ids[-2] not in chat.end_ids()


def test_a_begin_token_opens_prompts_but_not_completions(tokenizer: Any) -> None:
    import copy

    from tokenizers.processors import TemplateProcessing

    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"bos_token": "<s>"})
    other.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", other.bos_token_id)])
    chat = Chat("paper", other)
    assert chat.encode_prompts(["a"])[0][0] == other.bos_token_id
    assert other.bos_token_id not in chat.encode_prompts(["a"])[0][1:]
    assert other.bos_token_id not in chat.encode_completions(["a"], ["b"])[0]
    # Some tokenizers have one that they do not open texts with: the model has never seen it there.
    silent = copy.deepcopy(tokenizer)
    silent.add_special_tokens({"bos_token": "<s>"})
    assert silent.bos_token_id not in Chat("paper", silent).encode_prompts(["a"])[0]
    assert Chat("template", other).encode_prompts(["a"])[0][0] != other.bos_token_id


@pytest.mark.parametrize("name", ["chatml", "template"])
def test_unknown_format_and_missing_template_are_refused(name: str) -> None:
    plain = build_tokenizer(["some text"], 300)
    with pytest.raises(ParameterError, match="chat_format"):
        Chat(name, plain)


def test_rows_are_cut_at_the_end_and_dropped_without_room(tokenizer: Any) -> None:
    chat = Chat("plain", tokenizer)
    questions, solutions = ["What is one and two?", "word " * 200], ["It is three. " * 5, "No."]
    [long_prompt] = chat.encode_prompts(questions[:1])
    room = len(long_prompt) + 4
    rows, counts = encode_rows(chat, questions, solutions, room)
    assert counts == {"too_long": 1, "cut": 1}
    assert [len(row) for row in rows] == [room]
    kept, _ = encode_rows(chat, questions, solutions, room, keep_all=True)
    assert [len(row.completion) for row in kept] == [4, 0]


def test_loss_is_on_completion_tokens_only(tokenizer: Any) -> None:
    chat = Chat("plain", tokenizer)
    rows, _ = encode_rows(chat, ["What is 2 + 3?"], ["#### 5"], 200)
    columns = sft_columns(rows)
    [labels], [ids] = columns["labels"], columns["input_ids"]
    prompt = len(chat.encode_prompts(["What is 2 + 3?"])[0])
    assert labels[:prompt] == [-100] * prompt
    assert labels[prompt:] == ids[prompt:]
    assert tokenizer.decode(ids[prompt:]) == " #### 5<end>"


@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (4, 4), (1_003, 4), (77, 16)])
def test_arranged_batches_hold_every_row_once_and_end_with_the_short_one(rows: int, batch: int) -> None:
    lengths = [(index * 37) % 50 + 1 for index in range(rows)]
    batches = arrange(lengths, batch, 3)
    assert sorted(index for group in batches for index in group) == list(range(rows))
    assert all(len(group) == batch for group in batches[:-1])
    assert batches == arrange(lengths, batch, 3)
    if rows > 100:
        assert batches != arrange(lengths, batch, 4)
        spread = sum(max(lengths[i] for i in group) - min(lengths[i] for i in group) for group in batches) / len(batches)
        assert spread < 5


def test_tokenizer_keeps_numbers_whole_and_loses_no_text(tmp_path: Path) -> None:
    tokenizer = build_tokenizer([f"So 12 + {n} = {12 + n}." for n in range(40)] * 3, 600)
    assert len(tokenizer(" 17", add_special_tokens=False)["input_ids"]) == 1
    text = "Ünïcode ✓ 12,5 \n\t§"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
