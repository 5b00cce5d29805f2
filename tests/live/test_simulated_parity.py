"""The same session, live and simulated, gives the same indications.

Each scenario in tests/scenarios/sessions is played twice: by `layergate.sim`, and on real sockets under `layergate
trace`. Compared per host and flow: event, layer, action, filter, reauthorization, and the values that were decided on.
Evened out, and nothing else: segments without data behind the handshake are dropped (when TCP acknowledges is its own
affair), neighbouring data of one direction is one, and a port that TCP chose is any port.
"""

import difflib
import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from layergate.cli.telling import line_of
from layergate.live.names import SystemResolver
from layergate.sim.plans import Call, Happens, Script
from layergate.sim.running import play
from layergate.sim.script import parse
from tests.live.lab import Line, Tracer, inside, layer

pytestmark = pytest.mark.live

SESSIONS = sorted((Path(__file__).parents[1] / "scenarios" / "sessions").glob("*.txt"))
EPHEMERAL = range(32768, 61000)
# What the simulated programs are is not what runs here.
NOT_COMPARED = ("ALE_APP_ID", "ALE_PACKAGE_ID")
PACKETS = ("INBOUND_IPPACKET", "INBOUND_TRANSPORT", "OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET")
Step = tuple[object, ...]


def base(line: Line) -> str:
    return layer(line).replace("_V4", "").replace("_V6", "")


def facts(line: Line) -> Step:
    """Return what is compared of a line."""
    values = line["values"]
    assert isinstance(values, dict)
    kept = {
        name: "any" if name.endswith("_PORT") and value in EPHEMERAL else value
        for name, value in values.items()
        if name not in NOT_COMPARED
    }
    return (
        line["event"], layer(line), line["action"], line["filter_name"], line["reauthorize"],
        json.dumps(kept, sort_keys=True),
    )  # fmt: skip


def packets(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield the lines of one thing that happened at a time: a packet's together, a call's each."""
    group: list[Line] = []
    for line in lines:
        begins = base(line) in ("INBOUND_IPPACKET", "STREAM") or base(line) not in (
            *PACKETS, *(f"{name}_DISCARD" for name in PACKETS), "ALE_AUTH_RECV_ACCEPT", "ALE_AUTH_CONNECT",
            "ALE_AUTH_RECV_ACCEPT_DISCARD", "ALE_AUTH_CONNECT_DISCARD",
        )  # fmt: skip
        if base(line) == "STREAM" and group and base(group[0]) == "INBOUND_IPPACKET":
            begins = not is_inbound(line)
        if base(line) == "OUTBOUND_TRANSPORT" and group:
            begins = base(group[-1]) not in ("STREAM", "ALE_AUTH_RECV_ACCEPT", "ALE_AUTH_CONNECT")
            begins = begins or (base(group[-1]) == "STREAM" and is_inbound(group[-1]))
        if begins and group:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def is_inbound(line: Line) -> bool:
    values = line["values"]
    assert isinstance(values, dict)
    return bool(values["DIRECTION"])


def compared(lines: list[Line]) -> list[list[Step]]:
    """Return what is compared of one host's end of one flow."""
    found: list[list[Step]] = []
    for group in packets(lines):
        plain = all(line["event"] in ("segment", "datagram", "data") for line in group)
        has_data = any(base(line) == "STREAM" for line in group)
        quiet = all(line["action"] == "permit" and not line["reauthorize"] for line in group)
        if plain and quiet and not has_data:
            continue
        told = [facts(line) for line in group]
        if plain and quiet and found and found[-1] == told:
            continue
        found.append(told)
    return found


def ends(lines: Iterable[Line]) -> dict[tuple[str, int], list[list[Step]]]:
    """Return what is compared, by host and flow; flows in the order in which they come up."""
    numbers: dict[object, int] = {None: 0}
    apart: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        if line["kind"] != "indication":
            continue
        number = numbers.setdefault(line["flow"], len(numbers))
        apart.setdefault((str(line["host"]), number), []).append(line)
    return {key: compared(told) for key, told in sorted(apart.items())}


def calls_of(script: Script) -> tuple[list[dict[str, object]], list[str]]:
    """Return a script's calls as plays.py takes them, and the policies that are put in force at its pauses."""
    calls: list[dict[str, object]] = []
    policies = []
    for statement in script.statements:
        if isinstance(statement, Call):
            row = asdict(statement)
            for key in ("line", "text", "program", "host", "outcome"):
                del row[key]
            calls.append(row)
        else:
            assert isinstance(statement, Happens)
            calls.append({"verb": statement.verb, "seconds": statement.seconds})
            if statement.verb == "policy":
                policies.append(statement.text)
    return calls, policies


def set_options(netns: str, script: Script) -> None:
    """Give the namespace's TCP the least timeout that the script's has (the setting is there since Linux 6.11)."""
    seconds = script.options.get("box", {}).get("rto_s_min", 0.2)
    assert isinstance(seconds, float)
    setting = f"net.ipv4.tcp_rto_min_us={round(seconds * 1e6)}"
    subprocess.run(inside(netns, "sysctl", "-qw", setting), check=True)


@pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("file", SESSIONS, ids=[file.stem for file in SESSIONS])
def test_a_session_gives_the_same_indications_live_and_simulated(trace: Tracer, file: Path, version: int) -> None:
    script = parse(file.read_text(), file.name)
    simulated = play(script, SystemResolver(), version=version)
    expected = [json.loads(json.dumps(line_of(told))) for told in simulated.recording.indications]

    set_options(trace.netns, script)
    calls, policies = calls_of(script)
    if "box" in script.policies:
        trace.reload(script.policies["box"])
    changes = [lambda text=text: trace.reload(text) for text in policies]
    told = trace.run(f"from plays import *\nplay({version}, {calls!r})", *changes)

    live = as_text(ends([*told.before, *told.lines]))
    difference = list(difflib.unified_diff(live, as_text(ends(expected)), "live", "simulated", n=2, lineterm=""))
    assert not difference, "\n".join([f"calls ended by {told.report}", *difference])


def as_text(told: dict[tuple[str, int], list[list[Step]]]) -> list[str]:
    """Return what is compared as lines, to be shown where it differs."""
    return [
        f"{host} {flow}: {' '.join(map(str, step))}"
        for (host, flow), groups in told.items()
        for group in groups
        for step in group
    ]


def test_there_are_sessions_of_every_kind() -> None:
    assert len(SESSIONS) >= 30
