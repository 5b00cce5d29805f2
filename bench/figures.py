"""From rounds to figures: a ratio is formed within a round, where both sides met the same machine; then the median."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

Round = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and how far what it stands for is spread: quartiles, least and greatest."""

    median: float
    q1: float
    q3: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of *values*, at least one."""
        ordered = sorted(values)
        if len(ordered) == 1:
            return cls(*ordered * 5)
        q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, q1, q3, ordered[0], ordered[-1])

    def rounded(self) -> dict[str, float]:
        """Return it as a dict, to four significant digits."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


def spread(rounds: Sequence[Round], of: Callable[[Round], float]) -> Spread:
    """Return the spread of what *of* gives for each of *rounds*."""
    return Spread.of(map(of, rounds))


def ratio(rounds: Sequence[Round], above: str, below: str) -> Spread:
    """Return the spread of *above* divided by *below*, both of one round."""
    return spread(rounds, lambda one: one[above] / one[below])


def difference(rounds: Sequence[Round], more: str, less: str) -> Spread:
    """Return the spread of *more* minus *less*, both of one round."""
    return spread(rounds, lambda one: one[more] - one[less])
