"""Entries are split into groups, a tree each, so that what is wide in a field is not copied along its cuts.

A group holds what is narrow in one field. Example, among 10,000 filters of a firewall: 5,992 name a remote network of
/6 or longer, 1,991 of the others a local one, 1,806 of the others an application; the rest is wide in everything.
Cost: O(entries × fields).
Source: Vamanan, Voskuilen and Vijaykumar, "EffiCuts" (separable trees); by application and user too, by measurement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log2
from typing import Final

from layergate.compile.entries import Entry
from layergate.compile.steps import FULL

GROUPS_MAX: Final = 8
GROUP_MIN: Final = 12  # a tree costs a walk some four steps, whatever is in it
GROUP_BITS_MIN: Final = 3  # a field with fewer values tells too little apart: the protocol
NARROW_BITS: Final = 6  # a 64th of the field: copied a few times where the field is cut, not everywhere


def partition(
    entries: Sequence[Entry], words: Mapping[str, tuple[int, ...]], tops: Mapping[int, int]
) -> list[tuple[str, list[int]]]:
    """Split *entries* by the field that they are narrow in: (field, its entries), at most GROUPS_MAX and the rest.

    *words* are a field's, most significant first. Narrow: at most a 64th of the field's values; a field of several
    words is looked at by its first word, or by the upper half of them. The field that tells most apart comes first,
    and takes what is narrow in it.
    """
    spans: dict[int, list[tuple[int, int, int]]] = {}
    for place, entry in enumerate(entries):
        for word, low, high in entry.box:
            spans.setdefault(word, []).append((place, low, high))
        for word, low, high in entry.hull:
            spans.setdefault(word, []).append((place, low, high))
    narrow = {}
    for name, own in words.items():
        variants = [_narrow(spans, own[:count], tops) for count in range(1, max(1, len(own) // 2) + 1)]
        narrow[name] = max(variants, key=_worth)
    groups: list[tuple[str, list[int]]] = []
    least = max(GROUP_MIN, len(entries) // 64)
    taken: set[int] = set()
    while narrow and len(groups) < GROUPS_MAX:
        worth = {name: _worth(found) for name, found in narrow.items()}
        name = max(worth, key=lambda one: worth[one])
        members = narrow.pop(name)
        if len(members) < least or worth[name] < GROUP_BITS_MIN * len(members):
            break
        groups.append((name, sorted(members)))
        taken.update(members)
        narrow = {
            other: {place: span for place, span in found.items() if place not in members}
            for other, found in narrow.items()
        }
    rest = [place for place in range(len(entries)) if place not in taken]
    if rest:
        groups.append(("", rest))
    return groups


def _narrow(
    spans: Mapping[int, Sequence[tuple[int, int, int]]], leading: tuple[int, ...], tops: Mapping[int, int]
) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return the entries that are narrow in the words *leading*, by place, with their ranges there.

    *spans*: by word, (entry, low, high). Narrow: one value of each word, and of the last a small part.
    """
    found: dict[int, tuple[tuple[int, int], ...]] = {}
    for number, word in enumerate(leading):
        width = 0 if word != leading[-1] else tops.get(word, FULL) >> NARROW_BITS
        here: dict[int, tuple[tuple[int, int], ...]] = {}
        for place, low, high in spans.get(word, ()):
            if high - low <= width:
                before = here.get(place) or (found.get(place) if number else ())
                if before is not None:
                    here[place] = (*before, (low, high))
        found = here
    return found


def _worth(found: Mapping[int, object]) -> float:
    """Return how many entries there are times the bits that their ranges tell apart (Rényi's entropy of order 2)."""
    counts = Counter(found.values())
    total = len(found)
    return total * (2 * log2(total) - log2(sum(count * count for count in counts.values()))) if total else 0
