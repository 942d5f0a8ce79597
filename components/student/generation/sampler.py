"""Sampling whose outcome depends on each sample's own seed, never on what else is in the batch.

A token is drawn by inverse CDF with a uniform number that is a hash of (seed of the sample, step). The same seed, model and
prompt therefore give the same text alone, in any batch, in any shard and after a restart (up to floating-point noise in the
logits). It is also cheaper than a multinomial draw after a full sort: one partial sort serves both top-p and the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.records import row_id

SHORTLIST = 64
"""Candidates looked at first; the whole vocabulary is sorted only when they hold less than top_p of the mass."""


def sample_seed(*parts: object) -> int:
    """Seed of one sample: 48 bits of a content hash, exact in JSON numbers of any reader."""
    return int(row_id("sample", *parts)[:12], 16)


def uniforms(seeds: Sequence[int], steps: int) -> Any:
    """Uniform numbers in [0, 1) for every sample and step.

    The counter-based generator is SplitMix64 (Steele, Lea and Flood, 2014) with the seed's own hash as its starting point.

    Args:
        seeds: One seed a sample.
        steps: Tokens to draw at most.

    Returns:
        float32 array of shape [samples, steps]; 24 random bits each, so that every value is exact.
    """
    import numpy

    with numpy.errstate(over="ignore"):
        start = _mix(numpy.asarray(seeds, dtype=numpy.uint64))[:, None]
        counter = numpy.arange(1, steps + 1, dtype=numpy.uint64)[None, :] * numpy.uint64(0x9E3779B97F4A7C15)
        bits = _mix(start + counter)
    return ((bits >> numpy.uint64(40)).astype(numpy.float32)) * numpy.float32(2.0**-24)


def _mix(value: Any) -> Any:
    import numpy

    value = (value ^ (value >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return value ^ (value >> numpy.uint64(31))


def draw(logits: Any, uniform: Any, temperature: float, top_p: float) -> Any:
    """Choose one token a row.

    Args:
        logits: Tensor [rows, vocabulary].
        uniform: Tensor [rows] in [0, 1).
        temperature: 0 takes the likeliest token.
        top_p: Nucleus sampling: the smallest set of likeliest tokens with at least this mass (Holtzman et al., 2020).

    Returns:
        Token ids, tensor [rows].
    """
    import torch

    if temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.float() / temperature
    if top_p < 1 and scaled.shape[-1] > 2 * SHORTLIST:
        total = scaled.logsumexp(dim=-1, keepdim=True)
        values, order = scaled.topk(SHORTLIST, dim=-1)
        probabilities = (values - total).exp()
        if bool((probabilities.sum(dim=-1) >= top_p).all()):
            return _pick(probabilities, order, uniform, top_p)
    probabilities, order = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
    return _pick(probabilities, order, uniform, top_p)


def _pick(probabilities: Any, order: Any, uniform: Any, top_p: float) -> Any:
    import torch

    cumulative = probabilities.cumsum(dim=-1)
    before = cumulative - probabilities
    kept = ((before < top_p) & (probabilities > 0)).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(-1, kept - 1)
    index = torch.searchsorted(cumulative, uniform[:, None].to(cumulative.dtype) * mass, right=True)
    return order.gather(-1, torch.minimum(index, kept - 1)).squeeze(-1)
