"""What the layers say of a connection that is there."""

from __future__ import annotations

from layergate.policyfile import TableResolver, load_text
from layergate.sockets.passage import CLIENT, LISTENER, SERVER, Passages
from tests.unit.sockets.example import OWNERS, endpoint

POLICY = load_text(
    """
    [[filter]]
    name = "80 is served"
    layer = "ALE_AUTH_RECV_ACCEPT"
    action = "permit"
    when = { local_port = 80 }
    [[filter]]
    name = "nothing leaves"
    layer = "OUTBOUND_IPPACKET"
    action = "block"
    when = { remote_address = "10.0.0.0/8" }
    [[filter]]
    name = "curl stays at home"
    layer = "ALE_AUTH_CONNECT"
    action = "block"
    when = { app = "/usr/bin/curl" }
    [[filter]]
    name = "not by this card"
    layer = "INBOUND_TRANSPORT"
    action = "block"
    when = { interface = 3 }
    """,
    file="policy.toml",
    resolver=TableResolver(),
).policy


def told(one: object, **how: object) -> dict[str, tuple[str, str, bool, bool]]:
    passages = Passages(POLICY).of(one, **how)  # type: ignore[arg-type]
    return {said.layer: (said.verdict, said.by, said.is_recorded, said.is_certain) for said in passages}


def test_a_server_s_end_passes_the_documented_layers_and_each_says_by_whom() -> None:
    said = told(endpoint(inode=101, owners=OWNERS), is_server=True)
    assert tuple(said) == SERVER
    assert said["ALE_AUTH_RECV_ACCEPT"] == ("permit", "80 is served", False, True)
    assert said["OUTBOUND_IPPACKET"] == ("block", "nothing leaves", False, True)
    assert said["STREAM"] == ("permit", "", False, True)


def test_what_hangs_on_something_unknown_is_uncertain() -> None:
    assert told(endpoint(), is_server=True)["INBOUND_TRANSPORT"] == ("permit", "", False, False)


def test_what_the_kernel_wrote_down_counts() -> None:
    said = told(endpoint(inode=102, owners=OWNERS), is_server=False, recorded="as it was then")
    assert tuple(said) == CLIENT
    assert said["ALE_AUTH_CONNECT"] == ("permit", "as it was then", True, True)
    assert told(endpoint(inode=102, owners=OWNERS), is_server=False)["ALE_AUTH_CONNECT"][:2] == (
        "block",
        "curl stays at home",
    )


def test_a_listener_has_layers_of_its_own_and_without_a_policy_nothing_is_known() -> None:
    one = endpoint("LISTEN", "[::]:80", None)
    assert tuple(told(one, is_server=True)) == LISTENER
    assert {said.verdict for said in Passages(None).of(one, is_server=True)} == {""}
