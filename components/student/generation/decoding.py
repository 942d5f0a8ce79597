"""The decoding loop of the transformers engine: one prefill a prompt, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.student.generation.sampler import draw, uniforms

CHECK_STOP_EVERY = 8
"""Steps between looks for stop texts, since each look decodes text."""
COMPACT_BELOW = 0.8
"""Finished rows are dropped from the cache when fewer than this share still run: copying the cache each step would cost more."""


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seeds: Sequence[Sequence[int]],
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    end_ids: Sequence[int],
    pad_id: int,
    stopped: Any = None,
) -> list[list[list[int]]]:
    """Generate several responses to each prompt of a batch.

    Args:
        model: A transformers causal language model in evaluation mode.
        prompts: Token ids, one list a prompt.
        seeds: For each prompt as many seeds as responses (the same number for all).
        temperature: 0 is greedy.
        top_p: Nucleus mass.
        max_new_tokens: Longest response.
        end_ids: Tokens that end a response.
        pad_id: Token that fills shorter prompts on the left.
        stopped: Function from token ids to whether their text already holds a stop text; None when there are none.

    Returns:
        For each prompt and sample the response's token ids, with the end token when it was reached.
    """
    import torch

    device = model.device
    copies = len(seeds[0])
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    chance = torch.from_numpy(uniforms([seed for row in seeds for seed in row], max_new_tokens)).to(device)
    ends = torch.tensor(list(end_ids), device=device)
    with torch.inference_mode():
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        logits = out.logits[:, -1]
        if copies > 1:
            cache.batch_repeat_interleave(copies)
            logits = logits.repeat_interleave(copies, dim=0)
            mask = mask.repeat_interleave(copies, dim=0)
        rows = torch.arange(len(prompts) * copies, device=device)
        next_position = mask.sum(-1, keepdim=True)
        written = torch.full((len(rows), max_new_tokens), -1, dtype=torch.long, device=device)
        running = torch.ones(len(rows), dtype=torch.bool, device=device)
        for step in range(max_new_tokens):
            token = draw(logits, chance[rows, step], temperature, top_p)
            written[rows[running], step] = token[running]
            running &= ~torch.isin(token, ends)
            if stopped is not None and step % CHECK_STOP_EVERY == CHECK_STOP_EVERY - 1:
                for index in running.nonzero().flatten().tolist():
                    running[index] = not stopped(written[rows[index], : step + 1].tolist())
            left = int(running.sum())
            if left == 0 or step == max_new_tokens - 1:
                break
            if left < COMPACT_BELOW * len(rows):
                keep = running.nonzero().flatten()
                cache.batch_select_indices(keep)
                rows, token, mask, next_position = rows[keep], token[keep], mask[keep], next_position[keep]
                running = torch.ones(left, dtype=torch.bool, device=device)
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=-1)
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=next_position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = out.logits[:, -1]
            next_position = next_position + 1
    flat = [[token for token in row if token >= 0] for row in written.tolist()]
    return [flat[start : start + copies] for start in range(0, len(flat), copies)]
