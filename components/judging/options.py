"""Options of judging student responses (Orca-Math's GPT4-based-Exact-Match, arXiv 2402.14830, section 2.2.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from components.core.errors import ParameterError
from components.core.options import Options
from components.core.redaction import without_credentials


class JudgingOptions(Options, frozen=True, kw_only=True):
    """Who decides whether a response is right."""

    judge: Literal["rule_first", "always", "rule_only"] = "rule_first"
    """``always`` asks the teacher about every response, as the article does; ``rule_first`` only where the rules cannot decide (our
    choice: judge calls would be most of the cost of a round); ``rule_only`` never, and counts an undecided response as wrong."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """Temperature of the judge (our choice)."""
    max_reply_tokens: Annotated[int, Meta(ge=16)] = 256
    """Longest reply of the judge, in tokens (our choice)."""
    max_response_chars: Annotated[int, Meta(ge=100)] = 6000
    """The judge sees so much of the end of a response, in characters (our choice)."""
    time_limit_s: Annotated[float, Meta(gt=0)] = 5.0
    """Limit of one symbolic comparison, in seconds (Xwin-Math's evaluator, arXiv 2403.04706)."""
    golden: list[str] = []
    """Files of responses with known verdicts, beside our own set, on which precision and recall are measured: see
    ``components/judging/golden.py`` for the two forms (our choice)."""
    measure_teacher: bool = False
    """Ask the teacher about the golden set too, and report its precision and recall beside those of the rules (our choice)."""

    def check(self, section: str) -> None:
        """Refuse files of golden responses without an address, and those whose address holds credentials.

        Raises:
            ParameterError: There is such a file.
        """
        for index, uri in enumerate(self.golden):
            clean = without_credentials(uri)
            if not uri.strip() or ("://" in uri and not uri.startswith(("s3://", "file://"))):
                raise ParameterError(f"{section}.golden[{index}]", clean, "a file or s3://bucket/key")
            if clean != uri:
                raise ParameterError(f"{section}.golden[{index}]", clean, "an address without credentials: it is written into records")
