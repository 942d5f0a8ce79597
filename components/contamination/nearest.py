"""For every benchmark question the k most similar training questions by TF-IDF cosine, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from components.contamination.texts import content_tokens

TEST_BLOCK = 64
TRAIN_BLOCK = 50_000
"""A block of the product has at most 64 x 50,000 entries of 8 bytes: 26 MB, whatever the number of questions."""


def nearest(
    train: Sequence[str], tests: Sequence[str], k: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` best candidates of each test question.

    Ties in cosine are broken by position in ``train``, so that the result depends on nothing but the texts.

    Args:
        train: Training questions.
        tests: Benchmark questions.
        k: Candidates per test question.
        progress: Called with the number of test questions done.

    Returns:
        Positions in ``train`` and cosines, both of shape (tests, min(k, train)), best first. Cosine 0 marks a place for which no
        question with a common word was found.
    """
    width = min(k, len(train))
    best = np.zeros((len(tests), width), dtype=np.int64)
    cosines = np.zeros((len(tests), width), dtype=np.float32)
    if not any(content_tokens(text) for text in tests):
        return best, cosines
    vectorizer = TfidfVectorizer(analyzer=content_tokens, dtype=np.float32)
    vectorizer.fit(_chain(train, tests))
    test_rows = vectorizer.transform(tests).tocsr()
    train_columns = [
        vectorizer.transform(train[start : start + TRAIN_BLOCK]).T.tocsr() for start in range(0, len(train), TRAIN_BLOCK)
    ]
    for start in range(0, len(tests), TEST_BLOCK):
        block = test_rows[start : start + TEST_BLOCK]
        found: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = [[] for _ in range(block.shape[0])]
        for index, columns in enumerate(train_columns):
            product = (block @ columns).tocsr()
            for row in range(block.shape[0]):
                found[row].append(_top(product, row, width, index * TRAIN_BLOCK))
        for row, parts in enumerate(found):
            positions = np.concatenate([part[0] for part in parts])
            values = np.concatenate([part[1] for part in parts])
            order = np.lexsort((positions, -values))[:width]
            best[start + row, : len(order)] = positions[order]
            cosines[start + row, : len(order)] = values[order]
        progress(min(start + TEST_BLOCK, len(tests)))
    return best, cosines


class _chain:
    """Both lists one after the other, without copying them."""

    def __init__(self, *lists: Sequence[str]) -> None:
        self._lists = lists

    def __iter__(self) -> Any:
        for items in self._lists:
            yield from items


def _top(product: sparse.csr_matrix, row: int, width: int, offset: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The largest entries of one row; all of those that tie with the last one, so that the caller can break ties by position."""
    span = slice(product.indptr[row], product.indptr[row + 1])
    values, positions = product.data[span], product.indices[span]
    if len(values) > width:
        kth = np.partition(values, len(values) - width)[len(values) - width]
        chosen = values >= kth
        values, positions = values[chosen], positions[chosen]
    return positions.astype(np.int64) + offset, values
