"""What a run tells of itself: written whole, true of living processes only."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from layergate.live.record import Record, read_all, recorded, write

OWN = replace(Record.own("policy.toml", "/web", (71, 72)), filters={1: "served", 2: "served"})


def test_a_record_is_there_while_its_run_is(tmp_path: Path) -> None:
    with recorded(OWN, tmp_path):
        assert read_all(tmp_path) == [OWN]
        assert Path(OWN.policy).is_absolute()
        write(replace(OWN, version=2), tmp_path)
        assert [one.version for one in read_all(tmp_path)] == [2]
    assert read_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_an_earlier_process_with_the_same_number_is_none(tmp_path: Path) -> None:
    write(replace(OWN, began=OWN.began - 1), tmp_path)
    assert read_all(tmp_path) == []


def test_what_is_left_behind_is_cleared_by_the_next_run(tmp_path: Path) -> None:
    write(replace(OWN, pid=1 << 22), tmp_path)
    with recorded(OWN, tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.json"]


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_text(json.dumps({"pid": 2}))
    (tmp_path / "3.json").write_text("[]")
    assert read_all(tmp_path) == []
