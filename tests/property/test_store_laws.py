"""Laws of the store: abort is identity, readers see whole versions, no order of insertion matters, the past stays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    Indication,
    MatchType,
    Policy,
    RefusedError,
    Sublayer,
    Value,
    Verdict,
    layer_named,
)
from layergate.store import Kind, Session, State, Store, Transaction

LAYER = layer_named("ALE_AUTH_CONNECT_V4")
SUBLAYERS = (Sublayer("high", 900), Sublayer("middle", 100), Sublayer("low", 10))
PORTS = (0, 80, 443)
ASKED = [Indication(LAYER, {"IP_REMOTE_PORT": Value(DataType.UINT16, port)}) for port in PORTS]


@st.composite
def rules(draw: st.DrawFn) -> Filter:
    matches = draw(st.lists(st.sampled_from(PORTS), max_size=2, unique=True))
    conditions = tuple(Condition("IP_REMOTE_PORT", MatchType.EQUAL, Value(DataType.UINT16, port)) for port in matches)
    action = draw(st.sampled_from([Action.PERMIT, Action.BLOCK]))
    hard = action is Action.PERMIT and draw(st.booleans())
    return Filter(
        id=0,
        name=draw(st.sampled_from("abcd")),
        layer=LAYER,
        sublayer=draw(st.sampled_from(SUBLAYERS)).key,
        action=action,
        conditions=conditions,
        weight=Value(DataType.UINT64, draw(st.integers(0, 3))),
        flags=FilterFlag.CLEAR_ACTION_RIGHT if hard else FilterFlag.NONE,
    )


def set_up() -> tuple[Store, Session]:
    store = Store()
    session = store.open()
    for sublayer in SUBLAYERS:
        session.add(sublayer)
    return store, session


def said(verdict: Verdict) -> tuple[Action, str | None, bool]:
    return verdict.action, verdict.filter.key if verdict.filter else None, verdict.hard


def verdicts(policy: Policy) -> list[tuple[Action, str | None, bool]]:
    ordered = in_order(policy)
    return [said(classify(ordered, indication)) for indication in ASKED]


@given(st.lists(rules(), max_size=6), st.lists(st.tuples(st.booleans(), rules(), st.integers(0, 9)), max_size=8))
def test_abort_is_identity(first: list[Filter], operations: list[tuple[bool, Filter, int]]) -> None:
    store, session = set_up()
    for rule in first:
        session.add(rule)
    before, policy = store.view(), store.policy()
    transaction = session.begin()
    for adds, rule, number in operations:
        try:
            if adds:
                transaction.add(rule)
            else:
                transaction.delete_filter(number)
        except RefusedError:
            continue
    transaction.abort()
    assert store.view() is before
    assert replace(store.policy(), last_id=0) == replace(policy, last_id=0)


@st.composite
def interleavings(draw: st.DrawFn) -> list[tuple[str, int]]:
    return draw(st.lists(st.tuples(st.sampled_from(["begin", "read", "end", "write"]), st.integers(0, 2)), max_size=40))


@given(interleavings(), st.lists(rules(), min_size=4, max_size=4))
def test_readers_see_whole_versions_whatever_is_written_meanwhile(
    steps: list[tuple[str, int]], batch: list[Filter]
) -> None:
    store, session = set_up()
    seen: list[tuple[Transaction, int]] = []
    whole = {store.version: 0}
    readers = [store.open(str(number)) for number in range(3)]
    running: dict[int, Transaction] = {}
    writing = session.begin()
    written = 0
    for what, number in steps:
        if what == "begin" and number not in running:
            running[number] = readers[number].begin(is_read_only=True)
        elif what == "end" and number in running:
            running.pop(number).commit()
        elif what == "read" and number in running:
            transaction = running[number]
            seen.append((transaction, len(transaction.filters())))
            assert len(transaction.filters()) == whole[transaction.view.version]
        elif what == "write":
            # A batch of four is written one by one: nobody may ever see one, two or three of them.
            writing.add(replace(batch[written % 4], name=f"{written}"))
            written += 1
            if written % 4 == 0:
                writing.commit()
                whole[store.version] = written
                writing = session.begin()
    assert all(count % 4 == 0 for _, count in seen)
    assert all(reader.state in (State.ACTIVE, State.COMMITTED) for reader, _ in seen)


@given(st.lists(rules(), max_size=6, unique_by=lambda rule: (rule.sublayer, rule.weight.data)), st.randoms())
def test_the_order_of_insertion_does_not_matter(batch: list[Filter], random: object) -> None:
    # Equal weights are left out: the platform leaves their order open, and here the lower id decides it.
    keyed = [replace(rule, key=f"{{{number}}}") for number, rule in enumerate(batch)]
    shuffled = list(keyed)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for order in (keyed, shuffled):
        store, session = set_up()
        with session.begin() as transaction:
            for rule in order:
                transaction.add(rule)
        results.append(verdicts(store.policy()))
    assert results[0] == results[1]


@given(st.lists(rules(), max_size=5), rules())
def test_a_permit_below_never_unblocks_a_hard_block(batch: list[Filter], added: Filter) -> None:
    store, session = set_up()
    session.add(Sublayer("lowest", 1))
    for rule in batch:
        session.add(rule)
    before = [store.classify(indication) for indication in ASKED]
    session.add(replace(added, sublayer="lowest", action=Action.PERMIT))
    for old, new in zip(before, (store.classify(indication) for indication in ASKED), strict=True):
        if old.action is Action.BLOCK and old.hard:
            assert (new.action, new.filter) == (Action.BLOCK, old.filter)


@given(st.lists(st.one_of(rules(), st.integers(0, 9)), max_size=10))
def test_a_versions_verdicts_never_change_after_it_is_superseded(operations: list[Filter | int]) -> None:
    store, session = set_up()
    recorded = {store.version: verdicts(store.policy())}
    for operation in operations:
        try:
            if isinstance(operation, int):
                session.delete_filter(operation)
            else:
                session.add(operation)
        except RefusedError:
            continue
        recorded[store.version] = verdicts(store.policy())
    session.close()
    for version, expected in recorded.items():
        assert verdicts(store.policy(version)) == expected
        assert [said(store.classify(indication, version)) for indication in ASKED] == expected


@given(st.lists(rules(), max_size=6))
def test_what_a_dynamic_session_added_leaves_no_trace(batch: list[Filter]) -> None:
    store, session = set_up()
    for rule in batch[:1]:
        session.add(rule)
    policy = store.policy()
    with store.open(is_dynamic=True) as dynamic:
        for rule in batch:
            dynamic.add(rule)
    assert store.policy().filters == policy.filters
    assert not [record for record in store.view().all(Kind.FILTER) if record.session is not None]
