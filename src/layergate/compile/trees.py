"""Entries become trees, and trees become steps.

The entries of a layer are split into a few groups by a field that they are narrow in (`groups`), so that entries
that are wide in a field are not copied along its cuts. Each group is a tree: a node cuts the range of one word into up
to 4,096 equal parts, or splits it in two; a leaf tests what the way to it has not established. What makes it work:

- An entry is copied `COPIES` times at most, on average: a node may spend what its share of the budget allows.
- In a node, an entry that holds for the node's whole region hides what is heard after it in its sublayer, and in a
  small node an entry hides what it contains there. A filter that has no place left never decides.
- A test that the way to the leaf implies is left out; equal leaves are one.
- What can't be cut stays a leaf, however long: a list in the order in which filters are heard.

Nothing here depends on a clock or on chance: the same entries give the same steps. Cost: O(n log n) where entries
are narrow in something; never more than `WORK_PER_ENTRY` looks at an entry, for what is left then becomes leaves.
Source: Gupta and McKeown, "Packet Classification using Hierarchical Intelligent Cuttings" (HiCuts); Singh et al.,
"Packet Classification Using Multidimensional Cutting" (region compaction, HyperCuts); Vamanan et al., "EffiCuts"
(separable trees).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Final

from layergate.compile.cuts import CHILDREN_PER_COPY, Choice, best_division
from layergate.compile.entries import Entry
from layergate.compile.leaves import Leaves
from layergate.compile.steps import FULL, SEVERAL, Op, blanks, packed

Region = dict[int, tuple[int, int]]

LEAF_ENTRIES: Final = 6  # a cut costs as much as a test or two
COPIES: Final = 12
DEPTH_MAX: Final = 28
WORK_PER_ENTRY: Final = 400
SAMPLE: Final = 384
COVER_LOOKS_MAX: Final = 2048  # nodes up to this size are looked through for entries that hide others
PAIRS_MAX: Final = 192  # up to this size each entry is compared with each
WIDE_SHARE: Final = 0.5  # of the children: an entry that spans more is put aside
ASIDE_SHARE: Final = 0.3  # of the entries: at most so many are put aside
ASIDE_FROM: Final = 64


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """What a tree came to, for the report. *field*: what its entries are narrow in, "" for the rest."""

    field: str
    entry_count: int
    copy_count: int
    node_count: int
    depth: int
    leaf_entries_max: int
    steps_max: int


@dataclass(slots=True)
class Built:
    """Steps, four numbers each; the first root (0: none); which rows a row hid somewhere; the rows with a place."""

    steps: MutableSequence[int]
    root: int
    trees: list[TreeFacts]
    hides: dict[int, set[int]]
    placed: set[int]


@dataclass(slots=True)
class _Node:
    """A node to be made at step *place*: *members* of *region* are left; *allowed*: copies that it may come to."""

    place: int
    members: list[int]
    region: Region
    depth: int
    allowed: float


@dataclass
class Builder:
    """Makes the steps of one table. *entries* are in the order of their codes; *tops*: the greatest value of a word."""

    entries: Sequence[Entry]
    tops: Mapping[int, int]
    leaf_entries: int = LEAF_ENTRIES
    steps: list[int] = field(default_factory=lambda: [0, 0, 0, packed(Op.END)])
    trees: list[TreeFacts] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay the bounds out by word: a list a word, an element an entry."""
        count = len(self.entries)
        self._low: dict[int, list[int]] = {}
        self._high: dict[int, list[int]] = {}
        for place, entry in enumerate(self.entries):
            for word, low, high in (*entry.box, *entry.hull):
                if word not in self._low:
                    self._low[word] = [0] * count
                    self._high[word] = [self.tops.get(word, FULL)] * count
                self._low[word][place] = max(low, self._low[word][place])
                self._high[word][place] = min(high, self._high[word][place])
        self._region = {word: (0, self.tops.get(word, FULL)) for word in self._low}
        self._work = WORK_PER_ENTRY * (count + 256)
        self._leaves = Leaves(self.entries, self.steps)
        self._aside: list[int] = []
        self._alike: list[tuple[int, int]] = []
        self._hides: dict[int, set[int]] = {}

    def build(self, groups: Iterable[tuple[str, list[int]]]) -> Built:
        """Make a tree of each of *groups* (field that it is narrow in, entries), and one of what was put aside."""
        todo = [group for group in groups if group[1]]
        roots: list[tuple[int, int]] = []
        while todo:
            name, members = todo.pop(0)
            self._aside = []
            roots.append(self._tree(name, members, may_put_aside=bool(name)))
            if self._aside:
                rest = next((group for group in todo if not group[0]), None)
                aside = sorted({*self._aside, *(rest[1] if rest else ())})
                todo = [group for group in todo if group is not rest]
                todo.append(("", aside))
        return Built(self.steps, chained(self.steps, roots), self.trees, self._hides, self._leaves.placed)

    def _tree(self, name: str, members: list[int], *, may_put_aside: bool) -> tuple[int, int]:
        """Make the tree of *members*; return its root's place and the place behind it."""
        self.steps += blanks(len(self.steps) // 4, 2)
        root = self._reserve(2)
        codes = self.entries[members[0]].code
        sublayers = {self.entries[one].sublayer for one in members}
        self._put(root, codes, 0, 0, packed(Op.ROOT, sublayers.pop() if len(sublayers) == 1 else SEVERAL))
        nodes = [_Node(root + 1, members, self._region, 1, COPIES * len(members) + 64)]
        copies = depth = widest = longest = count = 0
        while nodes:
            node = nodes.pop()
            count += 1
            depth = max(depth, node.depth)
            children = self._divide(node, may_put_aside=may_put_aside)
            if children is None:
                entries, steps = self._leaf(node)
                copies += entries
                widest, longest = max(widest, entries), max(longest, steps + node.depth)
            else:
                nodes += children
        for place, count_alike in reversed(self._alike):
            step = self.steps[4 * place : 4 * place + 4]
            self.steps[4 * place + 4 : 4 * (place + count_alike) + 4] = step * count_alike
        self._alike.clear()
        self.trees.append(TreeFacts(name, len(members), copies, count, depth, widest, longest + 2))
        return root, codes

    def _reserve(self, count: int) -> int:
        place = len(self.steps) // 4
        self.steps += [0, 0, 0, 0] * count
        return place

    def _put(self, place: int, *numbers: int) -> None:
        self.steps[4 * place : 4 * place + 4] = numbers

    # --- leaves -----------------------------------------------------------------------------------------------------

    def _leaf(self, node: _Node) -> tuple[int, int]:
        """Put a leaf at the node's place; return how many entries and steps it has."""
        numbers, entries, steps = self._leaves.leaf(node.members, node.region)
        self._put(node.place, *numbers)
        return entries, steps

    def _uncovered(self, members: list[int], region: Region) -> list[int]:
        """Return *members* without what an entry that holds for the whole of *region* hides."""
        covers: dict[int, list[tuple[int, int]]] = {}
        kept = []
        for one in members:
            entry = self.entries[one]
            above = covers.get(entry.sublayer)
            if above is not None:
                hider = next((row for need, row in above if not need & ~entry.need), None)
                if hider is not None:
                    self._hide(hider, entry.row)
                    continue
            kept.append(one)
            if entry.clauses or entry.asks:
                continue
            for word, low, high in entry.box:
                bounds = region[word]
                if bounds[0] < low or bounds[1] > high:
                    break
            else:
                covers.setdefault(entry.sublayer, []).append((entry.need, entry.row))
        return kept

    def _uncontained(self, members: list[int], region: Region) -> list[int]:
        """Return *members* without those that another one contains, as far as *region* goes."""
        kept: list[int] = []
        for one in members:
            entry = self.entries[one]
            hider = next((other for other in kept if self._contains(self.entries[other], one, region)), None)
            if hider is None:
                kept.append(one)
            else:
                self._hide(self.entries[hider].row, entry.row)
        return kept

    def _contains(self, above: Entry, one: int, region: Region) -> bool:
        entry = self.entries[one]
        if above.clauses or above.asks or above.sublayer != entry.sublayer or above.need & ~entry.need:
            return False
        for word, low, high in above.box:
            bounds = region[word]
            if max(bounds[0], self._low[word][one]) < low or min(bounds[1], self._high[word][one]) > high:
                return False
        return True

    def _hide(self, hider: int, hidden: int) -> None:
        if hider != hidden:
            self._hides.setdefault(hider, set()).add(hidden)

    # --- division -----------------------------------------------------------------------------------------------------

    def _divide(self, node: _Node, *, may_put_aside: bool) -> list[_Node] | None:
        """Divide *node* and write its step; return its children, None where it is to be a leaf."""
        if len(node.members) <= COVER_LOOKS_MAX:
            node.members = self._uncovered(node.members, node.region)
        if len(node.members) <= self.leaf_entries:
            node.members = self._uncontained(node.members, node.region)
            return None
        if node.depth >= DEPTH_MAX:
            return None
        choice = self._choose(node)
        if choice is None and len(node.members) <= PAIRS_MAX:
            before = len(node.members)
            node.members = self._uncontained(node.members, node.region)
            if self.leaf_entries < len(node.members) < before:
                choice = self._choose(node)
        if choice is None:
            return None
        if not choice.bits:
            return self._split(node, choice)
        if may_put_aside and node.depth == 1 and len(node.members) >= ASIDE_FROM:
            self._put_aside(node, choice)
        return self._cut(node, choice)

    def _choose(self, node: _Node) -> Choice | None:
        members, region = node.members, node.region
        count = len(members)
        if self._work < 0:
            return None
        scale = 1.0
        if count > SAMPLE:
            step = count // SAMPLE
            members = members[::step]
            scale = count / len(members)
        self._work -= len(members)
        best: Choice | None = None
        for word, bounds in region.items():
            if bounds[0] == bounds[1]:
                continue
            self._work -= len(members)
            lows, highs, (bottom, top) = self._low[word], self._high[word], bounds
            pairs = [
                # Not max and min: they take twice the time, and this is most of the time.
                (low if low > bottom else bottom, high if high < top else top)  # noqa: FURB136
                for low, high in ((lows[one], highs[one]) for one in members)
            ]
            choice = best_division(word, pairs, node.allowed / scale)
            if choice is not None and (best is None or choice.score > best.score):
                best = choice
        return best

    def _put_aside(self, node: _Node, choice: Choice) -> None:
        """Put the entries aside that a cut would copy into most of its children, where they are few."""
        lows, highs = self._low[choice.word], self._high[choice.word]
        least = (choice.high - choice.low + 1) * WIDE_SHARE
        wide = {one for one in node.members if min(highs[one], choice.high) - max(lows[one], choice.low) >= least}
        if len(wide) <= ASIDE_SHARE * len(node.members):
            self._aside += wide
            node.members = [one for one in node.members if one not in wide]

    def _cut(self, node: _Node, choice: Choice) -> list[_Node] | None:
        """Write a CUT; children beside each other with the same members are one node, whose step is copied.

        None where the choice, made by a sample, turns out to cost too many copies.
        """
        word, bounds = choice.word, node.region[choice.word]
        lows, highs = self._low[word], self._high[word]
        low = max(bounds[0], min(lows[one] for one in node.members))
        high = min(bounds[1], max(highs[one] for one in node.members))
        spread = None
        for bits in range(choice.bits, 0, -2):
            shift = max(0, (high - low).bit_length() - bits)
            # Cuts are aligned, as prefixes are; a key below the first part then wraps to behind the last.
            base = low >> shift << shift
            spread = self._spread(node, word, base, high, shift)
            if spread is not None:
                break
        if spread is None:
            return None
        last = len(spread) - 1
        copies = sum(map(len, spread))
        self._work -= copies
        first = self._reserve(last + 1)
        self._put(node.place, base, last, first, packed(Op.CUT, word, shift))
        allowed = node.allowed - (last + 1) / CHILDREN_PER_COPY
        made = []
        child = 0
        while child <= last:
            members, end = spread[child], child
            while end < last and spread[end + 1] == members:
                end += 1
            if members:
                part = (max(bounds[0], base + (child << shift)), min(bounds[1], base + (end + 1 << shift) - 1))
                share = max(allowed * len(members) * (end - child + 1) / copies, len(members))
                made.append(_Node(first + child, members, node.region | {word: part}, node.depth + 1, share))
                if end > child:
                    self._alike.append((first + child, end - child))
            child = end + 1
        return made

    def _spread(self, node: _Node, word: int, base: int, high: int, shift: int) -> list[list[int]] | None:
        """Return the members of each part, None where there would be more copies than the node may have."""
        lows, highs = self._low[word], self._high[word]
        last = (high - base) >> shift
        children: list[list[int]] = [[] for _ in range(last + 1)]
        room = node.allowed - (last + 1) / CHILDREN_PER_COPY
        for one in node.members:
            start = (lows[one] - base) >> shift if lows[one] > base else 0
            end = (highs[one] - base) >> shift if highs[one] < high else last
            if start == end:
                children[start].append(one)
            else:
                for members in children[start : end + 1]:
                    members.append(one)
            room -= end - start + 1
            if room < 0:
                return None
        return children

    def _split(self, node: _Node, choice: Choice) -> list[_Node]:
        word, threshold = choice.word, choice.low
        lows, highs, bounds = self._low[word], self._high[word], node.region[word]
        below = [one for one in node.members if lows[one] <= threshold]
        above = [one for one in node.members if highs[one] > threshold]
        first = self._reserve(2)
        self._put(node.place, threshold, 0, first, packed(Op.SPLIT, word))
        total = len(below) + len(above)
        self._work -= total
        return [
            _Node(
                first + place,
                members,
                node.region | {word: part},
                node.depth + 1,
                max(node.allowed * len(members) / total, len(members)),
            )
            for place, members, part in (
                (0, below, (bounds[0], threshold)),
                (1, above, (threshold + 1, bounds[1])),
            )
        ]


def chained(steps: MutableSequence[int], roots: Iterable[tuple[int, int]]) -> int:
    """Let trees (root's step, least code) be walked by their least code, for what a tree can't better is passed over.

    Returns the first.
    """
    order = [place for place, _ in sorted(roots, key=lambda root: root[1])]
    for place, following in zip(order, (*order[1:], 0), strict=False):
        steps[4 * place + 2] = following
    return order[0] if order else 0
