"""The machine of docs/windows.md: Windows Firewall, and a VPN whose kill switch lets nothing past its tunnel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from layergate.engine.weights import weight_of
from layergate.windows import read
from tests.unit.windows import composer
from tests.unit.windows.composer import Row, app, between, condition, number, sddl, value

CONNECT, ACCEPT = "FWPM_LAYER_ALE_AUTH_CONNECT_V4", "FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4"
STREAM, LISTEN = "FWPM_LAYER_STREAM_V4", "FWPM_LAYER_ALE_AUTH_LISTEN_V4"
PERMIT, BLOCK = "FWP_ACTION_PERMIT", "FWP_ACTION_BLOCK"
WF, WSH = "FWPM_SUBLAYER_MPSSVC_WF", "FWPM_SUBLAYER_MPSSVC_WSH"
HARBOR = "{5a0c1f6e-2b7d-4c3e-9f10-8d2e6b4a7c01}"
HARBOR_PROVIDER = "{5a0c1f6e-2b7d-4c3e-9f10-8d2e6b4a7c02}"
SHIELD_CALLOUT = "{c94f0b12-6d1a-4e58-b3f7-20a9d1e4c803}"
FIREWALL, HARDENING = "FWPM_PROVIDER_MPSSVC_WF", "FWPM_PROVIDER_MPSSVC_WSH"
ORIGIN = "{7e1b44d0-93c8-45f7-8a61-c0d5e2f39b04}"

PROGRAMS = r"\device\harddiskvolume3\program files"
HARBOR_APP = rf"{PROGRAMS}\harbor vpn\harbor.exe"
BROWSER = rf"{PROGRAMS}\browser\browser.exe"
SYNC = rf"{PROGRAMS}\sync\syncd.exe"
SVCHOST = r"\device\harddiskvolume3\windows\system32\svchost.exe"
TIME_SERVICE = "S-1-5-80-4267341169-2882910712-659946508-2704364837-2204554466"

TCP, UDP = number(8, 6), number(8, 17)
NOT_LOOPBACK = condition("FLAGS", number(32, 1), "FLAGS_NONE_SET")
PUBLIC = (condition("ORIGINAL_PROFILE_ID", number(32, 1)), condition("CURRENT_PROFILE_ID", number(32, 1)))
IN_TUNNEL = condition("IP_REMOTE_ADDRESS", between(number(32, "10.8.0.0"), number(32, "10.8.255.255")), "RANGE")
OF_TIME_SERVICE = condition("ALE_USER_ID", sddl(f"O:SYG:SYD:(A;;CCRC;;;{TIME_SERVICE})"))


def weighed(rows: Sequence[Row]) -> list[Row]:
    """The rows with the weights that the newest Windows gives them."""
    read_back = {item.id: item for item in read([composer.filters(rows).encode()], "rows").policy.filters}
    return [replace(row, recorded=weight_of(read_back[row.id])) for row in rows]


ROWS = weighed(
    [
        Row(
            *(66216, "Boot Time Filter", ACCEPT, WF, BLOCK),
            conditions=[NOT_LOOPBACK],
            weight=number(8, 0),
            flags=["BOOTTIME", "HAS_PROVIDER_CONTEXT", "HAS_FILTER_ORIGIN"],
            provider=FIREWALL,
            context=ORIGIN,
            description="In effect before the service starts.",
        ),
        Row(
            *(70001, "Harbor: its own traffic", CONNECT, HARBOR, PERMIT),
            conditions=[condition("ALE_APP_ID", app(HARBOR_APP))],
            weight=number(8, 15),
            flags=["CLEAR_ACTION_RIGHT"],
            provider=HARBOR_PROVIDER,
        ),
        Row(
            *(70002, "Harbor: through the tunnel", CONNECT, HARBOR, PERMIT),
            conditions=[IN_TUNNEL],
            weight=number(8, 12),
            provider=HARBOR_PROVIDER,
        ),
        Row(
            *(70003, "Harbor: nothing else leaves", CONNECT, HARBOR, BLOCK),
            conditions=[NOT_LOOPBACK],
            weight=number(8, 0),
            provider=HARBOR_PROVIDER,
        ),
        Row(
            *(71010, "Allow NTP traffic from W32Time", CONNECT, WSH, PERMIT),
            conditions=[
                condition("ALE_APP_ID", app(SVCHOST)),
                OF_TIME_SERVICE,
                condition("IP_PROTOCOL", UDP),
                condition("IP_REMOTE_PORT", number(16, 123)),
            ],
            provider=HARDENING,
        ),
        Row(
            *(71011, "Service Hardening Default Block", CONNECT, WSH, BLOCK),
            conditions=[OF_TIME_SERVICE],
            provider=HARDENING,
        ),
        Row(*(71020, "Default Outbound", CONNECT, WF, PERMIT), weight=number(8, 3), provider=FIREWALL),
        Row(
            *(71030, "Sync (TCP-In)", ACCEPT, WF, PERMIT),
            conditions=[
                condition("ALE_APP_ID", app(SYNC)),
                condition("IP_PROTOCOL", TCP),
                condition("IP_LOCAL_PORT", number(16, 8384)),
                condition("IP_LOCAL_PORT", between(number(16, 22000), number(16, 22010)), "RANGE"),
            ],
            weight=number(8, 10),
            flags=["INDEXED"],
            provider=FIREWALL,
        ),
        Row(
            *(71031, "Query User", ACCEPT, WF, BLOCK),
            conditions=PUBLIC,
            weight=number(8, 8),
            provider=FIREWALL,
        ),
        Row(
            *(72001, "Shield stream inspection", STREAM, WF, "FWP_ACTION_CALLOUT_TERMINATING"),
            weight=value("UINT64", "<uint64>18446744073709551615</uint64>"),
            callout=SHIELD_CALLOUT,
        ),
    ]
)
CONNECTIONS = (
    composer.connection(101, ("192.0.2.10", 49801), ("203.0.113.5", 51820), HARBOR_APP),
    composer.connection(102, ("10.8.0.2", 49802), ("10.8.0.1", 53), BROWSER),
    composer.connection(103, ("192.0.2.10", 22000), ("192.0.2.77", 50123), SYNC),
    composer.connection(104, ("0.0.0.0", 123), ("0.0.0.0", 0), SVCHOST, protocol=17),  # noqa: S104 - not bound to
)
EVENTS = (
    composer.event(
        70003, 48, time="2026-04-01T10:02:11.250Z", application=BROWSER, remote="198.51.100.7", local_port=50001
    ),
    composer.event(
        70001,
        48,
        kind="CLASSIFY_ALLOW",
        time="2026-04-01T10:02:12.031Z",
        application=HARBOR_APP,
        remote="203.0.113.5",
        remote_port=51820,
    ),
    composer.event(
        71011,
        48,
        time="2026-04-01T10:02:15.400Z",
        application=SVCHOST,
        remote="10.8.0.1",
        remote_port=80,
        user="S-1-5-19",
        terminating=[(71011, "WSH", "BLOCK"), (71020, "WF", "PERMIT")],
    ),
    composer.event(
        69877,
        44,
        time="2026-04-01T10:02:19.882Z",
        application=SYNC,
        local_port=8384,
        remote="192.0.2.77",
        remote_port=50124,
        direction="IN",
        rule="Sync (TCP-In)",
    ),
)


def state() -> str:
    """wfpstate.xml of the machine."""
    return composer.state(
        ROWS,
        sublayers=[
            *(composer.sublayer(key, weight) for key, weight in composer.PLATFORM),
            composer.sublayer(HARBOR, 0xFFF0, "Harbor VPN kill switch", HARBOR_PROVIDER),
        ],
        callouts=[(STREAM, composer.callout(SHIELD_CALLOUT, STREAM, 301, "Shield stream callout"))],
        providers=[
            composer.provider(FIREWALL, "Microsoft Corporation", "mpssvc"),
            composer.provider(HARDENING, "Microsoft Corporation", "mpssvc"),
            composer.provider(HARBOR_PROVIDER, "Harbor VPN", "HarborService"),
        ],
        contexts=[composer.origin(ORIGIN, "Boottime Default", 9223372036854775810)],
        sessions=[composer.session(1)],
        connections=CONNECTIONS,
        time="2026-04-01T10:01:00.000Z",
    )


def net_events() -> str:
    """netevents.xml of the machine."""
    return composer.net_events(EVENTS)
