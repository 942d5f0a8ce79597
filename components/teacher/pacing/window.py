"""How many attempts may be under way, by what share of them the endpoint refuses."""

from __future__ import annotations

TOLERANCE = 0.1
"""Share of refusals (HTTP 429) that is taken for chance."""

STORM = 0.5
"""Share of refusals from which on the endpoint takes hardly anything more."""

ROUND = 20
"""Outcomes that a share is of, at least: of a few, one refusal is a large share."""

START = 16
"""After a storm or an outage the window starts with this part of its full size."""


class Window:
    """How many attempts may be under way. As DCTCP (RFC 8257): cut in proportion to the share of a round that was refused.

    A few random refusals leave it alone, more and more of them make it smaller and smaller, and when most of a round is refused it
    starts again small, and doubles (slow start).

    Args:
        most: Largest size.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(most)
        self._target = float(most)
        self._round = 0
        self._refused = 0

    @property
    def size(self) -> int:
        """Attempts that may be under way."""
        return int(self._size)

    def restart(self, target: float | None = None) -> None:
        """Start again small, and double up to ``target``; beyond it, grow slowly."""
        self._target = max(target if target is not None else float(self.most), 1.0)
        self._size = max(1.0, min(self._target, self.most / START))
        self._round = self._refused = 0

    def outcome(self, refused: bool) -> float | None:
        """Count an attempt that has ended.

        Returns:
            At the end of a round the share of it that was refused; None before.
        """
        starting = self._size < self._target
        length = max(self.size, 1 if starting else ROUND)
        self._round += 1
        self._refused += refused
        if starting and not refused:
            self._size = min(self._size + 1, self._target)
        # A storm need not be counted to its end.
        if self._round < length and self._refused <= STORM * length:
            return None
        share = self._refused / (self._round if self._round >= length else length)
        self._round = self._refused = 0
        if share > STORM:
            self.restart(self._size * (1 - share / 2))
        elif share > TOLERANCE:
            self._size = self._target = max(1.0, self._size * (1 - share / 2))
        elif not starting:
            self._size = self._target = min(float(self.most), self._size + max(1.0, self.most / START))
        return share
