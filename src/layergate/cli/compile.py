"""`layergate compile FILE`: the tables that a policy becomes, what they cost, and which filters have no place in them.

Nothing is loaded into a kernel. --report tells each layer's trees, and every filter that never decides, with what hides
it; --steps LAYER prints a layer's steps. FILE is a policy file or, with a name that ends in .xml, a dump of Windows.

Exit status: 0 compiled; 2 FILE is no policy, or has no such layer; 3 the filters need more than a table has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Final

from layergate.cli import output
from layergate.cli.sources import load_any
from layergate.compile import Compiled, Removed, Table, TreeFacts, compile_policy, listing
from layergate.engine.callouts import unasked
from layergate.kernel.tables import require
from layergate.model import InputError, NotSupportedError
from layergate.model.catalogue import PREFIX

NAME: Final = "compile"
HELP: Final = "show the tables that a policy becomes, and the filters that have no place in them"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    parser.add_argument("file", metavar="FILE", help="the policy: JSON where the name ends in .json, else TOML")
    parser.add_argument("--report", action="store_true", help="tell trees, and filters without a place")
    parser.add_argument("--steps", metavar="LAYER", help="print the steps of LAYER")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace) -> int:
    """Compile, and tell."""
    loaded = load_any(arguments.file)
    # The callouts of a dump are somebody else's, who can't be asked here.
    callouts = {one.key: unasked for one in loaded.policy.callouts} if loaded.is_windows else {}
    began = time.monotonic()
    compiled = compile_policy(loaded.policy, callouts=callouts)
    seconds = time.monotonic() - began
    # A dump is of a host that is not to be enforced here.
    kernel = None if loaded.is_windows else _kernel(compiled)
    if arguments.steps:
        return _print_steps(compiled, arguments.steps)
    tables = sorted(compiled.tables.values(), key=lambda table: table.layer.id)
    if arguments.json:
        for table in tables:
            output.json_line(_table_line(table))
            for removed in table.removed:
                output.json_line(_removed_line(table, removed))
        output.json_line(_summary_line(tables, seconds, kernel))
        return 0
    if arguments.report:
        for table in tables:
            sys.stdout.write("".join(f"{line}\n" for line in _told(table)))
    sys.stdout.write(_summary(arguments.file, tables, seconds, kernel))
    return 0


def _kernel(compiled: Compiled) -> NotSupportedError | None:
    """Return why the kernel can't have these tables, None where it can."""
    try:
        require(compiled)
    except NotSupportedError as error:
        return error
    return None


def _print_steps(compiled: Compiled, name: str) -> int:
    bare = name.removeprefix(PREFIX)
    found = [one for one in compiled.tables.values() if bare in (one.layer.short, one.layer.base)]
    if not found:
        known = ", ".join(sorted(table.layer.short for table in compiled.tables.values()))
        raise InputError(f"no filters at {name}", f"one of {known}" if known else "a policy with filters")
    for table in found:
        sys.stdout.write(f"{table.layer.short}\n")
        sys.stdout.write("".join(f"{line}\n" for line in listing(table.steps)))
    return 0


def _told(table: Table) -> Iterator[str]:
    filters = output.plural(len(table.filters), "filter")
    yield output.paint(table.layer.short, "bold") + (
        f"  {filters}, {output.plural(len(table.sublayers), 'sublayer')}, {table.table_bytes:,} bytes, "
        f"a walk takes {table.walk_max:,} steps at most"
    )
    rows: list[tuple[str, ...]] = [("narrow in", "entries", "copies", "nodes", "depth", "longest leaf")]
    rows += [(tree.field or "(the rest)", *(f"{number:,}" for number in _numbers(tree))) for tree in table.trees]
    yield from output.columns(rows, indent=4)
    for removed in table.removed:
        by = ", ".join(f"'{output.harmless(one.name)}'" for one in removed.by[:3])
        more = f" and {len(removed.by) - 3} more" if len(removed.by) > 3 else ""
        why = f"{removed.why} by {by}{more}" if by else removed.why
        yield f"    '{output.harmless(removed.filter.name)}' never decides: {why}"


def _numbers(tree: TreeFacts) -> tuple[int, ...]:
    return (tree.entry_count, tree.copy_count, tree.node_count, tree.depth, tree.leaf_entries_max)


def _summary(file: str, tables: list[Table], seconds: float, kernel: NotSupportedError | None) -> str:
    removed = sum(len(table.removed) for table in tables)
    text = (
        f"{file}: {output.plural(sum(len(one.filters) for one in tables), 'filter')} in "
        f"{output.plural(len(tables), 'table')}, {sum(one.table_bytes for one in tables):,} bytes, in "
        f"{seconds * 1000:.0f} ms; {removed} without a place\n"
    )
    return text + (f"the kernel can't have them: {kernel}\n" if kernel else "")


def _table_line(table: Table) -> dict[str, object]:
    return {
        "kind": "table",
        "layer": table.layer.name,
        "filters": len(table.filters),
        "sublayers": len(table.sublayers),
        "entries": table.entry_count,
        "bytes": table.table_bytes,
        "steps": len(table.steps) // 4,
        "walk_max": table.walk_max,
        "trees": [
            {
                "field": tree.field or None,
                "entries": tree.entry_count,
                "copies": tree.copy_count,
                "nodes": tree.node_count,
                "depth": tree.depth,
                "leaf_entries_max": tree.leaf_entries_max,
            }
            for tree in table.trees
        ],
    }


def _removed_line(table: Table, removed: Removed) -> dict[str, object]:
    return {
        "kind": "removed",
        "layer": table.layer.name,
        "filter": removed.filter.id,
        "filter_name": removed.filter.name,
        "why": removed.why,
        "by": [one.id for one in removed.by],
        "by_names": [one.name for one in removed.by],
    }


def _summary_line(tables: list[Table], seconds: float, kernel: NotSupportedError | None) -> dict[str, object]:
    return {
        "kind": "summary",
        "tables": len(tables),
        "filters": sum(len(table.filters) for table in tables),
        "bytes": sum(table.table_bytes for table in tables),
        "seconds": round(seconds, 6),
        "removed": sum(len(table.removed) for table in tables),
        "kernel": str(kernel) if kernel else None,
    }
