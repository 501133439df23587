"""Repeatable luck for made-up data."""

from __future__ import annotations

from random import Random


class Dice(Random):
    """The same seed, the same throws."""

    def chance(self, share: float) -> bool:
        """True in `share` of all throws."""
        return self.random() < share
