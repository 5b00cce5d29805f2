"""`layergate diff A B`: which indications another policy decides otherwise, with a witness for each kind of them.

A and B are policy files or, with names that end in .xml, what netsh wfp wrote on Windows hosts. Names, ids, lines and
the order in a file change nothing: only what is decided does, and limits, whose counts no example can hold. Exit
status: 0 no difference; 1 a difference, or not all was compared; 2 wrong input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Final

from layergate.analysis import Decision, Difference, Differences, diff
from layergate.analysis.limits import LimitChange, limit_changes
from layergate.cli import output
from layergate.cli.sources import load_any
from layergate.cli.words import bare, field_words, run_words, witness_line, witness_words
from layergate.model import Action, Policy

NAME: Final = "diff"
HELP: Final = "say which situations two policies decide differently, with an example of each kind"

LIMIT: Final = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    parser.add_argument("before", metavar="A", help="the policy of before, or a dump (.xml)")
    parser.add_argument("after", metavar="B", help="the policy of after, or a dump (.xml)")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"print N kinds at most ({LIMIT})")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the differences."""
    before, after = load_any(arguments.before), load_any(arguments.after)
    found = diff(before.policy, after.policy)
    limits = limit_changes(before.policy, after.policy)
    shown = found.found[: max(arguments.limit, 0)]
    sides = before.policy, after.policy
    if arguments.json:
        for one in shown:
            output.json_line(_line(one, sides))
        for change in limits:
            output.json_line(_limit_line(change))
        output.json_line(
            {
                "kind": "summary",
                "differences": len(found.found),
                "limits": len(limits),
                "shown": len(shown),
                "layers": len({one.layer.name for one in found.found}),
                "changed_filters": found.changed_count,
                "compared_filters": found.compared_count,
                "complete": found.complete,
            }
        )
    else:
        is_windows = before.is_windows or after.is_windows
        lines = _told(found, len(shown), sides, is_windows=is_windows)
        opening = "" if limits and not found.found else f"{_opening(found, arguments)}\n"
        sys.stdout.write(opening + "".join(f"{line}\n" for line in (*lines, *map(_limit_words, limits))))
    return 1 if found.found or limits or not found.complete else 0


def _limit_words(change: LimitChange) -> str:
    before, after = (output.harmless(str(one)) if one else "no limit" for one in (change.before, change.after))
    return f"{change.layer}: the limit of '{output.harmless(change.name)}': {before} → {after}"


def _limit_line(change: LimitChange) -> dict[str, object]:
    return {
        "kind": "limit-change",
        "layer": change.layer,
        "filter_name": change.name,
        "before": str(change.before) if change.before else None,
        "after": str(change.after) if change.after else None,
    }


def _opening(found: Differences, arguments: argparse.Namespace) -> str:
    changed = output.plural(found.changed_count, "filter")
    if not found.found:
        left = "" if found.complete else f", as far as compared ({found.compared_count} of {changed})"
        return f"{arguments.before} and {arguments.after} decide alike{left}"
    layers = output.plural(len({one.layer.base for one in found.found}), "layer")
    count = len(found.found)
    word = "1 kind of indication is" if count == 1 else f"{count} kinds of indications are"
    return f"{word} decided differently, at {layers}"


def _told(found: Differences, shown: int, sides: tuple[Policy, Policy], *, is_windows: bool) -> Iterator[str]:
    for one in found.found[:shown]:
        before, after = (_decision(side, policy) for side, policy in zip((one.before, one.after), sides, strict=True))
        yield f"{one.layer.short}: {before} → {after}"
        yield f"    for example: {witness_words(one.witness.indication, is_windows=is_windows)}"
        for condition, passes in one.witness.assumed.items():
            asked = f"{field_words(condition.field, is_windows=is_windows)} {run_words(one.layer, (condition,))}"
            yield f"    with a token for which '{asked}' {'holds' if passes else 'does not hold'}"
        if one.asked:
            names = ", ".join(f"'{output.harmless(item.name)}'" for item in one.asked)
            yield f"    if the callouts and limits that it passes go on ({names})"
    if shown < len(found.found):
        yield f"and {len(found.found) - shown} kinds more (--limit)"
    if not found.complete:
        yield (
            f"{found.compared_count} of {found.changed_count} filters that are not the same were compared whole: there "
            "may be more"
        )


def _decision(side: Decision, policy: Policy) -> str:
    word = output.paint("blocked", "red") if side.action is Action.BLOCK else output.paint("permitted", "green")
    if side.filter is None:
        return f"{word} (no filter)"
    sublayer = next((one.name for one in policy.sublayers if one.key == side.filter.sublayer), side.filter.sublayer)
    error = f" with errno {side.error}" if side.error else ""
    return f"{word} by '{output.harmless(side.filter.name)}' in {output.harmless(bare(sublayer))}{error}"


def _line(one: Difference, sides: tuple[Policy, Policy]) -> dict[str, object]:
    del sides
    return {
        "kind": "difference",
        "layer": one.layer.name,
        "before": _side(one.before),
        "after": _side(one.after),
        "witness": witness_line(one.witness.indication),
        "assumed": [
            {"test": f"{test.field} {test.match.name} {test.value.data!s}", "passes": passes}
            for test, passes in one.witness.assumed.items()
        ],
        "callouts": [item.id for item in one.asked],
    }


def _side(side: Decision) -> dict[str, object]:
    return {
        "action": str(side.action),
        "filter": side.filter.id if side.filter else None,
        "filter_name": side.filter.name if side.filter else None,
        "sublayer": side.filter.sublayer if side.filter else None,
        "error": side.error or None,
    }
