"""Reproducible random numbers for made-up data."""

from __future__ import annotations

from random import Random


class Dice(Random):
    """A random number generator; the same seed produces the same numbers."""

    def chance(self, share: float) -> bool:
        """Return True with probability `share`."""
        return self.random() < share
