"""What the offline teacher can work with: its options, the answer key, and chance that depends on the request alone."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from components.offline_teacher.answer_key import AnswerKey
from components.offline_teacher.options import OfflineTeacherOptions

CANNOT_SOLVE = "I am sorry, I cannot work out this problem: I do not understand its story."
CANNOT_REWRITE = "I am sorry, I do not understand this problem well enough to write another one from it."


@dataclass(frozen=True)
class Knowledge:
    """Everything that a reply depends on besides the request.

    Args:
        options: The options.
        key: The answer key.
    """

    options: OfflineTeacherOptions
    key: AnswerKey

    def chance(self, *parts: object) -> random.Random:
        """A generator that the same parts (and the option ``seed``) always give again."""
        text = "\x1f".join([str(self.options.seed), *map(str, parts)])
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
