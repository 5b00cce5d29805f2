"""docs/windows.md shows what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from layergate.cli import main
from tests.unit.windows import example

PAGE = Path(__file__).parents[3] / "docs" / "windows.md"
SHOWN = re.findall(r"```console\n\$ layergate ([^\n]*)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("command, output", SHOWN, ids=[command for command, _ in SHOWN])
def test_the_page_shows_what_is_printed(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wfpstate.xml").write_text(example.state(), encoding="utf-8-sig")
    Path("netevents.xml").write_text(example.net_events(), encoding="utf-8-sig")
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == output


def test_the_page_shows_all_views() -> None:
    assert {command.split()[1] for command, _ in SHOWN} >= {"show", "events", "connections", "--wfp"}
