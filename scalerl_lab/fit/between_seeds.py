"""How far seeds of an arm lie apart beyond what measuring them explains, pooled over arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BetweenSeeds:
    """Spread of the values of one arm's seeds, the same for all arms."""

    sd: float
    """Without the noise of measurement; 0 where that explains all."""
    degrees: int
    """Of freedom: seeds less arms."""
    num_values: int
    num_groups: int
    """Arms with several seeds."""

    @property
    def half80(self) -> float:
        """Half of the 80 % interval of a seed about its arm, by Student's t, as the sd is estimated."""
        from scipy import special

        return self.sd * float(special.stdtrit(self.degrees, 0.9))


def between_seeds(groups: Sequence[Sequence[tuple[float, float]]]) -> BetweenSeeds | None:
    """The pooled spread: s^2 = max(0, sum (y - mean)^2 / (n - g) - mean se^2), over g arms with n seeds.

    Args:
        groups: of each arm (value, standard error) of its seeds; arms with one seed say nothing.

    Returns:
        None where no arm has two.

    Worked number: one arm with 0.70 and 0.72, each measured to 0.01, has s^2 = 0.0002 - 0.0001.
    """
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    num = sum(len(group) for group in several)
    squares = 0.0
    for group in several:
        mean = sum(value for value, _ in group) / len(group)
        squares += sum((value - mean) ** 2 for value, _ in group)
    noise = sum(error**2 for group in several for _, error in group) / num
    degrees = num - len(several)
    return BetweenSeeds(math.sqrt(max(0.0, squares / degrees - noise)), degrees, num, len(several))
