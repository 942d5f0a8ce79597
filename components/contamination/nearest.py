"""For every benchmark question the k most similar training questions by TF-IDF cosine, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from components.contamination.texts import content_tokens

TEST_BLOCK = 64
TRAIN_BLOCK = 50_000
"""A block of the product has at most 64 x 50,000 entries of 8 bytes: 26 MB, whatever the number of questions."""

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions in the training questions, and their cosines."""


class Nearest:
    """TF-IDF vectors of both sides, and the search among them.

    Args:
        train: Training questions in their ``exact_form``.
        tests: Benchmark questions in their ``exact_form``.
    """

    def __init__(self, train: Sequence[str], tests: Sequence[str]) -> None:
        self._starts = range(0, len(train), TRAIN_BLOCK)
        try:
            matrix = TfidfVectorizer(analyzer=content_tokens, dtype=np.float32).fit_transform(chain(train, tests)).tocsr()
        except ValueError:  # scikit-learn's answer to texts of stop words only: nothing shares a word with anything
            matrix = sparse.csr_matrix(np.zeros((len(train) + len(tests), 1), dtype=np.float32))
        self._train = [matrix[start : min(start + TRAIN_BLOCK, len(train))].T.tocsr() for start in self._starts]
        self._tests = matrix[len(train) :]

    def find(self, tests: Sequence[int], k: int, progress: Callable[[int], None] = lambda done: None) -> list[Found]:
        """The ``k`` best candidates of each test question, best first; fewer where fewer share a word with it.

        Ties in cosine are broken by position in ``train``, so that the result depends on nothing but the texts and their order.

        Args:
            tests: Positions of the test questions to look at.
            k: Candidates per test question.
            progress: Called with the number of test questions done.

        Returns:
            Per test question, positions in ``train`` and cosines.
        """
        result: list[Found] = []
        for begin in range(0, len(tests), TEST_BLOCK):
            block = self._tests[tests[begin : begin + TEST_BLOCK]]
            parts: list[list[Found]] = [[] for _ in range(block.shape[0])]
            for start, columns in zip(self._starts, self._train, strict=True):
                product = block @ columns
                for row, found in enumerate(parts):
                    found.append(_top(product, row, k, start))
            result.extend(_merge(found, k) for found in parts)
            progress(len(result))
        return result


def _top(product: sparse.csr_matrix, row: int, k: int, offset: int) -> Found:
    """The largest ``k`` entries of one row, and all that tie with the last of them: ties are broken after merging."""
    span = slice(product.indptr[row], product.indptr[row + 1])
    values, positions = product.data[span], product.indices[span]
    if len(values) > k:
        chosen = values >= np.partition(values, len(values) - k)[len(values) - k]
        values, positions = values[chosen], positions[chosen]
    return positions.astype(np.int64) + offset, values


def _merge(parts: list[Found], k: int) -> Found:
    positions = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    order = np.lexsort((positions, -values))[:k]
    return positions[order], values[order]
