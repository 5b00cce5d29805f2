"""Each documented flow, simulated: exactly its steps; and where a policy blocks one of them, it ends there."""

import json
import os
from pathlib import Path

import pytest

from layergate.model import Action, Decided
from layergate.path import TWINS
from layergate.policyfile import TableResolver, load_text
from layergate.sim.documented import ADDED, FLOWS, simulate

SPEC = Path(os.environ.get("LAYERGATE_SHARED", Path(__file__).parents[4] / "shared")) / "spec"
FLOWS_FILE = Path(__file__).parents[2] / "golden" / "documented-flows.json"
APPS = {"client": "/usr/bin/curl", "server": "/usr/sbin/nginx"}
both_families = pytest.mark.parametrize("version", [4, 6])
every_flow = pytest.mark.parametrize("name", FLOWS)


def documented(name: str, version: int) -> list[tuple[str, str, str]]:
    """Return a flow's steps as Microsoft documents them ("TCP Packet Flows", "UDP Packet Flows")."""
    key = name.replace("-", "_").replace("tcp_no", "tcp_syn_no")
    rows = json.loads(FLOWS_FILE.read_text())[key]
    return [(host, event, layer.replace("_V4", f"_V{version}")) for host, event, layer in rows]


def test_the_steps_are_those_of_the_specification() -> None:
    if not SPEC.exists():
        pytest.skip(f"no reference material at {SPEC}: the copy of its flows is compared where it is at hand")
    files = [json.loads((SPEC / name).read_text())["flows"] for name in ("tcp_flows.json", "udp_flows.json")]
    theirs = {
        key: [[step["host"], step["event"], step["layer"]] for step in rows]
        for flows in files
        for key, rows in flows.items()
    }
    assert json.loads(FLOWS_FILE.read_text()) == theirs


def steps(told: tuple[Decided, ...]) -> list[tuple[str, str, str]]:
    return [(one.indication.host, one.indication.event, one.indication.layer.name) for one in told]


@both_families
@every_flow
def test_a_flow_has_exactly_the_documented_steps_in_order(name: str, version: int) -> None:
    told = simulate(name, version=version).steps
    if name == "tcp-termination":  # it has no layer of its own
        assert not documented(name, version)
        kinds = {one.indication.layer.base for one in told}
        packets = {"OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET", "INBOUND_IPPACKET", "INBOUND_TRANSPORT"}
        assert kinds == packets | {"ALE_ENDPOINT_CLOSURE", "ALE_RESOURCE_RELEASE"}
        closed = [one.indication.host for one in told if one.indication.layer.base == "ALE_ENDPOINT_CLOSURE"]
        assert closed == ["client", "server"]
    else:
        assert steps(told) == documented(name, version)


@both_families
@every_flow
def test_a_flow_ends_where_a_policy_blocks_it_with_that_filter_named(name: str, version: int) -> None:
    whole = simulate(name, version=version).steps
    tried = 0
    for one in whole:
        layer, host = one.indication.layer, one.indication.host
        if layer.base in ("ALE_ENDPOINT_CLOSURE", "ALE_RESOURCE_RELEASE", "ALE_AUTH_RECV_ACCEPT_DISCARD"):
            continue  # what is shown there has happened
        condition = f'when = {{ app = "{APPS[host]}" }}\n' if layer.field("ALE_APP_ID") else ""
        blocker = f"stop at {layer.short}"
        text = f'[[filter]]\nname = "{blocker}"\nlayer = "{layer.short}"\naction = "block"\n{condition}'
        policy = load_text(text, file="stop.toml", resolver=TableResolver()).policy
        told = simulate(name, version=version, policy=policy).steps
        at = next(
            place
            for place, step in enumerate(whole)
            if step.indication.layer == layer and (not condition or step.indication.host == host)
        )
        assert steps(told[: at + 1]) == steps(whole[: at + 1]), blocker
        assert [step.action for step in told[:at]] == [Action.PERMIT] * at, blocker
        last = told[at]
        assert (last.action, last.filter and last.filter.name) == (Action.BLOCK, blocker)
        twin = [layer.discard_name] if layer.base in TWINS else []
        assert [step.indication.layer.name for step in told[at + 1 :]] == twin, blocker
        tried += 1
    assert tried >= 2


@both_families
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_flow_is_authorised_again_by_the_filter_that_came_with_the_change(protocol: str, version: int) -> None:
    for outcome, action in (("permitted", Action.PERMIT), ("blocked", Action.BLOCK)):
        told = simulate(f"{protocol}-reauthorization-{outcome}", version=version).steps[2]
        assert (told.indication.reauthorize, told.action) == (True, action)
        assert told.filter is not None
        assert told.filter.name == ADDED


@every_flow
def test_the_same_seed_gives_the_same_packets_and_another_seed_others(name: str) -> None:
    def packets(seed: int) -> list[object]:
        return simulate(name, seed=seed).recording.entries

    assert packets(3) == packets(3)
    assert packets(3) != packets(4)
