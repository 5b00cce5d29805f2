"""Crowds: a million sources that attack, and very many connections that behave beside them.

By default a twentieth of either; LAYERGATE_CROWD=1 makes it all (about two minutes).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from layergate.kernel import layout_generated as layout
from tests.live.guard.attacks import SECONDS_MAX as ATTACK_S
from tests.live.guard.attacks import SYN_FLOOD
from tests.live.guard.scene import Scene, newest, scene
from tests.live.guard.test_attacks import NO_RST
from tests.live.guard.test_limits import OPENS
from tests.live.lab import LAYERGATE, inside, ip, nft, start_in

pytestmark = pytest.mark.live

SCALE = float(os.environ.get("LAYERGATE_CROWD", "0.05"))
SOURCES = int(1_000_000 * SCALE)
BEHAVING = int(100_000 * SCALE)
SECONDS_MAX = 60 + 300 * SCALE
# What docs/guard.md states, with the maps' own housekeeping.
RECENT_MAX, LIVE_MAX, FLOWS_MAX = 32_768, 131_072, 262_144
GUARD = """
[[filter]]
name = "half-open"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
limit = { per = "remote_prefix", prefix_v4 = 16, half_open = 32 }

[[filter]]
name = "at once"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
limit = { per = "remote_address", concurrent = 20 }

[[filter]]
name = "new"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
limit = { per = "remote_address", new = 200, over = "1m" }
ban = "1m"
"""
# A SYN from each of so many addresses of 11.0.0.0/8, once.
MILLION = """
import struct
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton("10.78.0.1")
tail = struct.pack("!IIBBH", 7, 0, 80, 2, 8192)
for number in range(COUNT):
    address = 11 << 24 | number * 16777 % (1 << 24)
    source = struct.pack("!I", address)
    tcp = struct.pack("!HH", 1024 + number % 60000, 8080) + tail + bytes(4)
    tcp = tcp[:16] + struct.pack("!H", checksum(source + target + struct.pack("!BBH", 0, 6, 20) + tcp)) + tcp[18:]
    raw.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target) + tcp, ("10.78.0.1", 0))
report(COUNT)
""".replace("COUNT", str(SOURCES))
HOLDS = f"""{OPENS}
held = [one for number in range(1, 21) for one in opened(10, f"10.79.20.{{number}}")]
print(len(held), flush=True)
def talk(one):
    one.settimeout(2)
    one.sendall(b"?\\n")
    return one.recv(8) == b"ok\\n"
sys.stdin.readline()
print(sum(map(talk, held)), flush=True)
sys.stdin.readline()
"""
# Connections one after the other, each with a request, from so many addresses that none is near a limit.
BEHAVE = """
failed = []
for number in range(COUNT):
    try:
        source = f"10.80.{number % 100}.{number // 100 % 250 + 1}"
        with socket.create_connection(("10.78.0.1", 8080), timeout=3, source_address=(source, 0)) as one:
            one.sendall(b"?\\n")
            assert one.recv(8) == b"ok\\n"
    except (OSError, AssertionError) as error:
        failed.append(f"{source} {error!r}")
report(COUNT, failed[:5])
""".replace("COUNT", str(BEHAVING))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene("crowd", tmp_path_factory.mktemp("crowd")) as made, made.serving(4096):
        ip("-n", made.here, "route", "add", "11.0.0.0/8", "via", "10.78.0.2")
        ip("-n", made.here, "route", "add", "10.80.0.0/16", "via", "10.78.0.2")
        ip("-n", made.there, "route", "add", "local", "10.80.0.0/16", "dev", "lo")
        nft(made.there, NO_RST)
        yield made


def sizes() -> dict[str, int]:
    """Return how many elements the run's maps hold."""
    forms = (
        ("lg_recent", layout.COUNT_KEY.size, layout.COUNT.size),
        ("lg_live", layout.COUNT_KEY.size, layout.COUNT.size),
        ("lg_flows", layout.FLOW_KEY.size, layout.FLOW.size),
    )
    return {name: len(newest(name, key, value)) for name, key, value in forms}


def resident(pattern: str) -> int:
    """Return the resident bytes of the process whose command line has *pattern*."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if pattern in (entry / "cmdline").read_text(encoding="utf-8").replace("\0", " "):
                return int((entry / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    raise AssertionError(pattern)


def counted(place: Scene) -> dict[str, int]:
    told = subprocess.run(
        inside(place.here, LAYERGATE, "guard", "top", "--json", "--rows", "100000"),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rows = [row for row in map(json.loads, told.splitlines()) if row["counted"] == "concurrent"]
    return {row["key"]: row["count"] for row in rows if row["key"].startswith("10.79.20.")}


def test_a_million_sources_evict_nobody_who_has_a_connection(place: Scene) -> None:
    with place.guarded(GUARD), start_in(place.there, None, HOLDS) as holding:
        assert holding.stdout is not None
        assert holding.stdin is not None
        assert holding.stdout.readline() == "200\n"
        before, small = counted(place), resident("run --policy")
        assert before == {f"10.79.20.{number}": 10 for number in range(1, 21)}
        assert place.run(MILLION, SECONDS_MAX) == [SOURCES]
        found, grown = sizes(), resident("run --policy") - small
        assert counted(place) == before
        holding.stdin.write("\n")
        holding.stdin.flush()
        assert holding.stdout.readline() == "200\n"
        assert place.run(f'{OPENS}\nreport(len(opened(3, "10.79.21.1")))') == [3]
        holding.kill()
    assert found["lg_recent"] <= RECENT_MAX
    assert found["lg_live"] <= 2 * 20 + 60  # a key each limit and source that has a connection
    assert found["lg_flows"] <= 20_000
    assert grown < 32 << 20, f"{grown:,} bytes more"


def test_nobody_who_behaves_is_touched_beside_an_attack(place: Scene) -> None:
    for_long = SYN_FLOOD.replace(f"time.monotonic() + {ATTACK_S}", f"time.monotonic() + {SECONDS_MAX}")
    with place.guarded(GUARD) as guard, place.attacked(for_long) as attack:
        guard.until("past")
        count, failed = place.run(BEHAVE, SECONDS_MAX)  # type: ignore[misc]
        assert attack.poll() is None, "the attack was over before"
    assert failed == []
    assert count == BEHAVING
    touched = Counter(str(line["key"]) for line in guard.limits() if str(line["key"]).startswith("10.80."))
    assert not touched
