"""The build hook: compiles the BPF objects before a wheel or an editable install is put together.

The wheel stays tagged py3-none-any: tools/build_bpf.py says why an object doesn't depend on the machine.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfObjects(BuildHookInterface[Any]):
    """Runs tools/build_bpf.py; what it makes is shipped through `artifacts` in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002, the interface's signature
        """Compile what is stale, and stop the build if that fails."""
        script = Path(self.root) / "tools" / "build_bpf.py"
        if subprocess.run([sys.executable, script], check=False).returncode != 0:
            self.app.abort("the BPF objects were not built, the reason is above")
