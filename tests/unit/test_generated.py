"""What is generated is what its sources say now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from layergate.kernel import layout_generated as layout
from layergate.kernel.hooks import HOOKS
from layergate.model import LAYERS, layers_named
from layergate.model.catalogue_data import CONDITION_GUIDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tool", ["gen_kernel_layout.py", "gen_docs.py", "gen_tcp_states.py"])
def test_nothing_is_stale(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_catalogue_is_whole() -> None:
    assert [layer.id for layer in LAYERS] == list(range(99))
    assert len({layer.guid for layer in LAYERS}) == 99
    names = {layer.name for layer in LAYERS}
    assert all(layer.discard_name in names for layer in LAYERS if layer.discard_name)
    assert CONDITION_GUIDS["IP_REMOTE_PORT"] == "c35a604d-d22b-4e1a-91b4-68f674ee674b"


def test_every_hook_knows_fields_that_its_layer_has_and_the_kernel_numbers() -> None:
    for hook in HOOKS:
        assert len(layers_named(hook.layer)) == 2, hook.layer
        for layer in layers_named(hook.layer):
            assert [name for name in hook.fields if not layer.field(name)] == [], hook.layer
        assert all(hasattr(layout, f"FIELD_{name}") for name in hook.fields), hook.layer
