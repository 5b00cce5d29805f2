"""The law: what is composed from a policy loads to the same policy, in both formats."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layergate.model import Policy, PolicyError
from layergate.policyfile import TableResolver, compose, load_text

RESOLVER = TableResolver(users={"alice": 1000}, services={"https": 443}, interfaces={"eth0": 2})

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
PORTS = st.integers(0, 65535)


@st.composite
def spans(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> str:
    low, high = sorted((draw(values), draw(values)))
    return f"{low}-{high}"


@st.composite
def networks(draw: st.DrawFn, kind: type[ipaddress.IPv4Network | ipaddress.IPv6Network], bits: int) -> str:
    address, length = draw(st.integers(0, (1 << bits) - 1)), draw(st.integers(0, bits))
    return str(kind((address, length), strict=False))


V4, V6 = (st.integers(0, (1 << bits) - 1) for bits in (32, 128))
ADDRESSES = st.one_of(
    V4.map(ipaddress.IPv4Address).map(str),
    V6.map(ipaddress.IPv6Address).map(str),
    V4.map(lambda number: f"::ffff:{ipaddress.IPv4Address(number)}"),
    networks(ipaddress.IPv4Network, 32),
    networks(ipaddress.IPv6Network, 128),
    st.tuples(V4, V4).map(lambda ends: "-".join(str(ipaddress.IPv4Address(end)) for end in sorted(ends))),
    st.tuples(V6, V6).map(lambda ends: "-".join(str(ipaddress.IPv6Address(end)) for end in sorted(ends))),
    st.just("empty"),
)


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, st.lists(values, min_size=1, max_size=4))


def sortable(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(several(values), several(values).map(lambda value: {"not": value}))


def bits(names: list[str]) -> st.SearchStrategy[Any]:
    masks = st.lists(st.one_of(st.sampled_from(names), st.integers(1, 0xFFFFFFFF)), min_size=1, max_size=3)
    tests = st.tuples(st.sampled_from(["all", "any", "none"]), masks).map(lambda test: dict([test]))
    both = st.fixed_dictionaries({"all": st.just([names[0]]), "none": st.just([0x80000000])})
    tests = st.one_of(tests, both)
    return st.one_of(tests, st.lists(tests, min_size=1, max_size=2), sortable(st.integers(0, 0xFFFFFFFF)))


PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6).map(lambda name: f"/{name}")
TEXTS = st.one_of(PATHS, st.just("empty"))
WHEN = st.fixed_dictionaries(
    {},
    optional={
        "app": st.one_of(several(TEXTS), PATHS.map(lambda value: {"not": value})),
        "user": st.one_of(several(st.sampled_from([0, "alice", "empty"])), st.just({"not": "alice"})),
        "unit": st.one_of(several(NAMES), NAMES.filter(lambda name: name != "empty").map(lambda name: {"not": name})),
        "protocol": sortable(st.one_of(st.sampled_from(["tcp", "udp", "icmp", "empty"]), st.integers(0, 255))),
        "remote_port": sortable(st.one_of(PORTS, spans(PORTS), st.sampled_from(["https", "empty", "0x50"]))),
        "local_port": sortable(PORTS),
        "remote_address": sortable(ADDRESSES),
        "local_address": sortable(ADDRESSES),
        "interface": sortable(st.one_of(st.just("eth0"), st.integers(0, 9))),
        "flags": bits(["loopback", "reauthorize", "fragment"]),
        "reauthorize_reason": bits(["policy_change"]),
    },
)
LAYERS = [f"{base}{family}" for base in ("ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT") for family in ("", "_V4", "_V6")]
FILTERS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "layer": st.one_of(st.sampled_from(LAYERS), st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3)),
        "when": WHEN,
    },
    optional={"sublayer": st.sampled_from(["UNIVERSAL", "mpssvc_wf", "mine"]), "description": NAMES},
)
WEIGHTS = st.one_of(
    st.just({}),
    st.integers(0, 2**64 - 1).map(lambda weight: {"weight": hex(weight)}),
    st.integers(0, 15).map(lambda weight: {"weight_range": weight}),
)
ACTIONS = st.sampled_from([{"action": "permit"}, {"action": "permit", "hard": True}, {"action": "block"}])
TIMES = st.one_of(
    st.integers(1, 86_400_000).map(lambda number: f"{number}ms"),
    st.integers(1, 1440).map(lambda number: f"{number}m"),
)
COUNTS = st.integers(1, (1 << 32) - 1)
PERS = st.one_of(
    st.sampled_from([{"per": per} for per in ("remote_address", "app", "unit", "all", "tuple")]),
    st.fixed_dictionaries(
        {"per": st.just("remote_prefix")},
        optional={"prefix_v4": st.integers(1, 32), "prefix_v6": st.integers(1, 128)},
    ),
)
COUNTED = st.one_of(
    st.fixed_dictionaries({"concurrent": COUNTS}, optional={"fair": st.just("remote_address")}),
    st.fixed_dictionaries({"half_open": COUNTS}),
    *(st.fixed_dictionaries({name: COUNTS, "over": TIMES}) for name in ("new", "closed", "ports", "remotes")),
    st.fixed_dictionaries({"abnormal": COUNTS, "over": TIMES}, optional={"connections": COUNTS}),
    st.fixed_dictionaries({"slow": st.fixed_dictionaries({"bytes": COUNTS, "over": TIMES, "grace": TIMES})}),
    st.fixed_dictionaries({"empty": st.fixed_dictionaries({"grace": TIMES})}),
)
LIMITS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"limit": st.tuples(PERS, COUNTED).map(lambda parts: parts[0] | parts[1])},
        optional={
            "response": st.sampled_from(["drop", "refuse", "reset"]),
            "ban": st.one_of(TIMES, st.fixed_dictionaries({"for": TIMES}, optional={"up_to": TIMES})),
            "monitor": st.booleans(),
        },
    ),
)
TABLES = st.tuples(FILTERS, WEIGHTS, ACTIONS, LIMITS).map(lambda parts: parts[0] | parts[1] | parts[2] | parts[3])
SUBLAYER = {"name": "mine", "weight": 7, "description": 'of "mine"\\'}


def loadable(tables: list[dict[str, Any]]) -> Policy:
    """The policy of those *tables* that are fine by themselves and have names of their own; the law is about them."""
    kept = {}
    for table in tables:
        try:
            load(json.dumps({"sublayer": [SUBLAYER], "filter": [table]}), "p.json")
        except PolicyError:
            continue
        kept.setdefault(table["name"], table)
    return load(json.dumps({"sublayer": [SUBLAYER], "filter": list(kept.values())}), "p.json")


def load(text: str, file: str) -> Policy:
    return load_text(text, file=file, resolver=RESOLVER).policy


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TABLES, max_size=3))
def test_what_is_composed_loads_to_the_same(tables: list[dict[str, Any]]) -> None:
    policy = loadable(tables)
    for form in ("toml", "json"):
        text = compose(policy, form)
        again = load(text, f"p.{form}")
        assert again == policy
        assert [item.description for item in again.filters] == [item.description for item in policy.filters]
        assert compose(again, form) == text
