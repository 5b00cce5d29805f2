"""Filters of one version become classifier tables. Pure and deterministic; the kernel and every backend read the same.

For now a table is a list of tests in the order in which filters are heard; each test says where to go on when it holds
and when it does not. What replaces the list keeps this interface: `compile_policy` gives a `Compiled`, and
`Compiled.table` what a layer needs.
"""

from layergate.compile.tests import GOTO_END, GOTO_MATCHED, Compiled, Op, Test, compile_policy

__all__ = ["GOTO_END", "GOTO_MATCHED", "Compiled", "Op", "Test", "compile_policy"]
