"""Sampling that depends on each sample's own seed only."""

from __future__ import annotations

import numpy
import pytest
import torch
from scipy.stats import chisquare

from components.student.generation.sampler import SHORTLIST, draw, sample_seed, uniforms

DRAWS = 20_000


def test_uniforms_are_uniform_and_independent_of_their_neighbours() -> None:
    table = uniforms(range(2_000), 20)
    assert table.min() >= 0 and table.max() < 1
    counts, _ = numpy.histogram(table, bins=50, range=(0, 1))
    assert chisquare(counts).pvalue > 1e-3
    for other in (table[1:, :] * table[:-1, :], table[:, 1:] * table[:, :-1]):
        assert abs(other.mean() - 0.25) < 0.005
    alone = uniforms([7], 20)
    assert (alone[0] == uniforms([3, 7, 11], 20)[1]).all()
    assert (alone[0, :5] == uniforms([7], 5)[0]).all()


def test_seeds_differ_between_samples_and_stay_below_two_to_the_48() -> None:
    seeds = {sample_seed(0, 1, problem, index) for problem in ("a", "b") for index in range(100)}
    assert len(seeds) == 200
    assert max(seeds) < 2**48


@pytest.mark.parametrize("temperature", [0.7, 1.3])
@pytest.mark.parametrize("vocabulary", [8, 4 * SHORTLIST])
def test_draws_follow_the_softmax(temperature: float, vocabulary: int) -> None:
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 2
    uniform = torch.from_numpy(uniforms(range(DRAWS), 1)[:, 0])
    tokens = draw(logits.expand(DRAWS, -1), uniform, temperature, 1.0)
    expected = torch.softmax(logits / temperature, dim=-1) * DRAWS
    often = expected > 5
    observed = torch.bincount(tokens, minlength=vocabulary)
    pooled = numpy.append(observed[often].numpy(), int(observed[~often].sum()))
    wanted = numpy.append(expected[often].numpy(), float(expected[~often].sum()))
    keep = wanted > 0
    assert chisquare(pooled[keep], wanted[keep] * pooled[keep].sum() / wanted[keep].sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("top_p", "allowed"),
    [(0.4, {0}), (0.5, {0}), (0.51, {0, 1}), (0.79, {0, 1}), (0.81, {0, 1, 2}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_keeps_the_smallest_set_with_that_mass(top_p: float, allowed: set[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    uniform = torch.from_numpy(uniforms(range(4_000), 1)[:, 0])
    assert set(draw(logits.expand(4_000, -1), uniform, 1.0, top_p).tolist()) == allowed


@pytest.mark.parametrize("scale", [0.1, 6.0])
def test_the_shortlist_gives_what_the_full_sort_gives(scale: float) -> None:
    """A flat distribution overflows the shortlist, a peaked one does not: both must agree with the plain definition."""
    torch.manual_seed(1)
    logits = torch.randn(64, 1_000) * scale
    uniform = torch.from_numpy(uniforms(range(64), 1)[:, 0])
    probabilities, order = torch.softmax(logits, -1).sort(dim=-1, descending=True, stable=True)
    expected = []
    for row in range(64):
        kept = int(((probabilities[row].cumsum(0) - probabilities[row]) < 0.95).sum())
        cumulative = probabilities[row, :kept].double().cumsum(0)
        place = int((cumulative <= float(uniform[row]) * cumulative[-1]).sum())
        expected.append(int(order[row, min(place, kept - 1)]))
    got = draw(logits, uniform, 1.0, 0.95).tolist()
    assert sum(a != b for a, b in zip(got, expected, strict=True)) <= 1


def test_temperature_zero_takes_the_likeliest_token() -> None:
    logits = torch.randn(16, 300)
    assert (draw(logits, torch.rand(16), 0.0, 0.5) == logits.argmax(-1)).all()
