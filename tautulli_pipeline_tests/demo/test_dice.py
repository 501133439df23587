from __future__ import annotations

import pytest

from tautulli_pipeline.demo.dice import Dice


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97, 1.0])
def test_chance_is_true_with_the_given_probability(share):
    dice = Dice(3)
    taken = [dice.chance(share) for _ in range(5000)].count(True) / 5000
    assert abs(taken - share) <= (0.03 if 0 < share < 1 else 0)


def test_the_same_seed_produces_the_same_numbers():
    first, again, other = (
        [dice.chance(0.5) for _ in range(30)] for dice in (Dice(7), Dice(7), Dice(8))
    )
    assert first == again != other
