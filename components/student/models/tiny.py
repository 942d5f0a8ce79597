"""The tiny student: its own tokenizer, a small Llama, and a brief pretraining on noisy word problems.

It is the base model of the laptop profile. The corpus is generated here and its solutions are wrong on purpose (a wrong step or
a miscalculated result every so often), so that the model starts out fluent in the format and mediocre at the arithmetic.
No benchmark question is in the corpus: their normalised texts are handed to the generator as ones to stay clear of.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from components.student.models.chat import Chat
from components.student.options import TinyOptions
from components.student.training.rows import Encoded, arrange, encode_rows
from components.word_problems.problems import CORE_FAMILIES, generate_many, noisy_solution

PAD, END = "<pad>", "<end>"
TOKENIZER_TEXTS = 4_000
"""Problems that the tokenizer is trained on (our choice): more changes few merges."""


@dataclass(frozen=True)
class CorpusRow:
    """One pretraining problem."""

    question: str
    solution: str
    """Noisy on purpose."""
    answer: str
    """The right answer."""
    steps: int


def make_corpus(options: TinyOptions, seed: int, avoid: Collection[str]) -> list[CorpusRow]:
    """Generate the pretraining corpus.

    Args:
        options: Number and size of the problems, share of wrong steps.
        seed: The same seed gives the same corpus.
        avoid: Normalised benchmark questions.
    """
    problems = generate_many(
        seed,
        options.rows,
        split="pretraining",
        max_steps=options.max_steps,
        max_number=options.max_number,
        avoid=avoid,
        families=options.families or CORE_FAMILIES,
        retargeted=options.retargeted,
        hardened=options.hardened,
        wordings=options.wordings,
    )
    rng = random.Random(f"noise {seed}")
    return [
        CorpusRow(
            problem.question,
            noisy_solution(problem, rng, wrong_step=options.wrong_step, wrong_result=options.wrong_result),
            str(problem.answer),
            len(problem.steps),
        )
        for problem in problems
    ]


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Byte-level BPE tokenizer: frequent words and numbers become single tokens, any other text falls back to bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END, padding_side="left")


def build_model(tokenizer: Any, options: TinyOptions, seed: int) -> Any:
    """A small Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=options.positions,
        tie_word_embeddings=True,
        initializer_range=options.initializer_range,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    model: Any, rows: Sequence[Encoded], options: TinyOptions, seed: int, progress: Callable[[int, int], None]
) -> list[dict[str, float]]:
    """Train once over the rows, loss on completions only.

    A plain loop rather than a trainer: at this size a trainer's own work per step costs as much as the model's.

    Args:
        model: The model, trained in place.
        rows: Encoded corpus.
        options: Batch size and learning rate.
        seed: Seed of the order of the rows.
        progress: Called with steps done and steps in all.

    Returns:
        The training curve.
    """
    import torch

    model.train()
    order = arrange([len(row) for row in rows], options.batch_size, seed)
    batches = [[rows[index] for index in batch] for batch in order]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, betas=(0.9, options.beta2), weight_decay=0.0, fused=True)
    warmup = max(1, len(batches) // 50)
    curve: list[dict[str, float]] = []
    every = max(1, len(batches) // 50)
    gathered = 0.0
    for step, batch in enumerate(batches):
        rise = min(1.0, (step + 1) / warmup)
        rate = options.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = completion_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gathered += float(loss.detach())
        if (step + 1) % every == 0:
            curve.append({"step": float(step + 1), "loss": gathered / every, "learning_rate": rate})
            gathered = 0.0
        progress(step + 1, len(batches))
    return curve


def completion_loss(model: Any, batch: Sequence[Encoded]) -> Any:
    """Mean negative log-likelihood per completion token; logits are computed at completion positions only."""
    import torch

    width = max(len(row) for row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    predicts = torch.zeros((len(batch), width), dtype=torch.bool)
    for index, row in enumerate(batch):
        text = [*row.prompt, *row.completion]
        ids[index, : len(text)] = torch.tensor(text)
        predicts[index, len(row.prompt) - 1 : len(text) - 1] = True
    # Padding follows the text and attention is causal: no attention mask is needed.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[predicts])
    targets = torch.cat([torch.tensor(row.completion) for row in batch])
    return torch.nn.functional.cross_entropy(logits, targets)


def build(
    options: TinyOptions,
    chat_format: str,
    seed: int,
    avoid: Collection[str],
    progress: Callable[[int, int], None],
) -> tuple[Any, Any, list[CorpusRow], list[dict[str, float]]]:
    """Tokenizer, pretrained model, corpus and training curve.

    Args:
        options: Sizes.
        chat_format: Format that the corpus is written in.
        seed: Seed of corpus, weights and order.
        avoid: Normalised benchmark questions that the corpus must not hold.
        progress: Called with steps done and steps in all.
    """
    corpus = make_corpus(options, seed, avoid)
    tokenizer = build_tokenizer(_tokenizer_texts(corpus, chat_format), options.vocabulary)
    chat = Chat(chat_format, tokenizer)
    model = build_model(tokenizer, options, seed)
    encoded, _ = encode_rows(chat, [row.question for row in corpus], [row.solution for row in corpus], options.positions)
    curve = pretrain(model, encoded, options, seed, progress)
    return model, tokenizer, corpus, curve


def _tokenizer_texts(corpus: Sequence[CorpusRow], chat_format: str) -> list[str]:
    from components.student.models.chat import FORMATS

    prompt, completion, _ = FORMATS[chat_format]
    return [prompt.format(question=row.question) + completion.format(solution=row.solution) for row in corpus[:TOKENIZER_TEXTS]]
