"""What the verifier reads stays far from its limit of a million instructions: static functions once made it 687,000."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layergate.kernel import layout_generated as layout
from layergate.kernel.loader import Programs, Settings
from layergate.kernel.netns import Namespace
from tests.live.lab import control_group, namespace

pytestmark = pytest.mark.live

INSTRUCTIONS_MAX = 50_000


# The verifier of this kernel reads both ways to walk a table; an older kernel has only the second.
@pytest.mark.parametrize("iterates", [True, False])
def test_every_program_is_read_quickly(*, iterates: bool) -> None:
    with control_group("verifier") as group, namespace("verifier") as name:
        programs = Programs(Settings(group, layout.EMIT_BLOCKS, ring_bytes=1 << 16, iterates=iterates))
        try:
            programs.attach_interface(Namespace(name), 1)
            assert not programs.refused
            read = {
                program: int(re.search(r"verified_insns:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[1])  # type: ignore[index]
                for program, fd in programs.loaded()
            }
        finally:
            programs.close()
    assert len(read) >= 15
    assert {program: count for program, count in read.items() if count > INSTRUCTIONS_MAX} == {}
