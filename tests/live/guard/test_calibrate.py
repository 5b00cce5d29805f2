"""`layergate guard calibrate --live`, and `guard top` of what was tried: beside what sources really did."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.live.guard.scene import Scene, scene
from tests.live.guard.test_limits import OPENS, guard_says
from tests.live.guard.test_tried import ANY, TRIES
from tests.live.lab import LAYERGATE, inside

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("calibrate", tmp_path_factory.mktemp("calibrate")) as made, made.serving():
        yield made


def test_what_sources_did_meanwhile_is_what_is_told(place: Scene) -> None:
    words = (LAYERGATE, "guard", "calibrate", "--live", "3s", "--over", "10s", "--json")
    with subprocess.Popen(inside(place.here, *words), stdout=subprocess.PIPE, text=True) as looking:
        time.sleep(1)
        place.run(f"""{OPENS}{TRIES}
first, second = opened(7, "10.79.1.1"), opened(2, "10.79.1.2")
for one in first[:4]:
    one.close()
time.sleep(0.1)
first += opened(3, "10.79.1.1")
tried("10.79.1.3", 81, 82, 82, 83)
report(0)
""")
        told = {
            line.get("counted", line["kind"]): line
            for line in map(json.loads, looking.communicate(timeout=30)[0].splitlines())
        }
    assert looking.returncode == 0
    assert {name: told[name]["greatest"] for name in ("new", "concurrent", "ports", "closed")} == {
        "new": 10, "concurrent": 7, "ports": 3, "closed": 4,
    }  # fmt: skip
    assert told["summary"]["sources"] == 3
    assert told["summary"]["skipped"] == 0


def test_top_tells_what_was_tried(place: Scene) -> None:
    with place.guarded(ANY.format(limit='per = "remote_address", ports = 9, over = "1m"', beside="")):
        place.run(f'{TRIES}\nreport(tried("10.79.2.1", 8080, 81, 82, 81))')
        (row,) = guard_says(place, "top", "--json")
    assert (row["key"], row["counted"], row["count"], row["limit"]) == ("10.79.2.1", "ports", 3, 9)
