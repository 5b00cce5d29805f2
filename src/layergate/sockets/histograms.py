"""Histograms in powers of two, of times in µs: kept, told as lines, drawn.

`slots[n]` counts the values from 2^n up to 2^(n+1) µs; 0 counts as 1. The kernel keeps round trips in the same slots.

Worked example: 3, 5 and 6 µs: slots[1] is 1, slots[2] is 2; drawn, two rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from layergate.sockets.columns import time_words

SLOTS: Final = 32
_BAR: Final = 40
_US_PER_S: Final = 1e6


@dataclass(slots=True)
class Histogram:
    """How often what was measured. Times are µs."""

    count: int = 0
    sum: int = 0
    least: int = 0
    greatest: int = 0
    slots: list[int] = field(default_factory=lambda: [0] * SLOTS)

    def add(self, value: int) -> None:
        """Count *value*. Cost: 0.5 µs."""
        self.least = value if not self.count else min(self.least, value)
        self.greatest = max(self.greatest, value)
        self.count += 1
        self.sum += value
        self.slots[min(max(value, 1).bit_length() - 1, SLOTS - 1)] += 1

    def quantile(self, share: float) -> int:
        """Return the upper end of the slot in which the value at *share* (0 to 1) lies, no more than the greatest."""
        rest = share * self.count
        for slot, count in enumerate(self.slots):
            rest -= count
            if rest <= 0 and count:
                return min(2 << slot, self.greatest)
        return self.greatest

    @property
    def mean(self) -> float:
        """The mean, exact."""
        return self.sum / self.count if self.count else 0.0


def of_kernel(values: Iterable[int]) -> Histogram:
    """Return struct lg_histogram, by its members, as a Histogram."""
    count, total, least, greatest, *slots = values
    return Histogram(count, total, least, greatest, slots)


def histogram_line(of: str, by: str, key: object, one: Histogram) -> dict[str, object]:
    """Return *one* as a JSON line of kind `histogram`: empty slots are left out, `to_us` is not in the slot."""
    return {
        "kind": "histogram",
        "of": of,
        "by": by,
        "key": key,
        "count": one.count,
        "mean_us": round(one.mean, 1),
        "least_us": one.least,
        "greatest_us": one.greatest,
        "slots": [
            {"from_us": 1 << slot if slot else 0, "to_us": 2 << slot, "count": count}
            for slot, count in enumerate(one.slots)
            if count
        ],
    }


def drawn(title: str, one: Histogram) -> Iterator[str]:
    """Yield *one* as lines: a title with its figures, then a bar a slot, from the first filled one to the last."""
    figures = ", ".join(
        f"{name} {time_words(value / _US_PER_S)}"
        for name, value in (
            ("mean", one.mean), ("half below", one.quantile(0.5)), ("99 % below", one.quantile(0.99)),
            ("greatest", one.greatest),
        )
    )  # fmt: skip
    yield f"{title}: {one.count} ({figures})"
    filled = [slot for slot, count in enumerate(one.slots) if count]
    most = max(one.slots)
    for slot in range(filled[0], filled[-1] + 1) if filled else ():
        count = one.slots[slot]
        start, stop = (1 << slot if slot else 0), 2 << slot
        bar = "█" * round(count * _BAR / most)
        yield f"  {time_words(start / _US_PER_S):>7} to {time_words(stop / _US_PER_S):<7} {count:>9}  {bar}".rstrip()
