"""Filters of one version become classifier tables. Pure and deterministic; the kernel and every backend read the same.

`compile_policy` gives a `Compiled`, `Compiled.table` what a layer needs: the two arrays `steps` and `rows`. Read
`compiler` first: it is the paper; `steps` is the layout.
"""

from layergate.compile.compiler import compile_layer, compile_policy
from layergate.compile.steps import CODE_BITS, CODE_BLOCK, CODE_HARD, NO_CODE, SEVERAL, STEP_BYTES, Op, listing
from layergate.compile.tables import WALK_MAX, Compiled, Removed, Table
from layergate.compile.trees import TreeFacts
from layergate.compile.words import KERNEL_FIELDS, KERNEL_WORDS, KNOWN, Layout, Names

__all__ = [
    "CODE_BITS",
    "CODE_BLOCK",
    "CODE_HARD",
    "KERNEL_FIELDS",
    "KERNEL_WORDS",
    "KNOWN",
    "NO_CODE",
    "SEVERAL",
    "STEP_BYTES",
    "WALK_MAX",
    "Compiled",
    "Layout",
    "Names",
    "Op",
    "Removed",
    "Table",
    "TreeFacts",
    "compile_layer",
    "compile_policy",
    "listing",
]
