"""The store: what it refuses, by which name; transactions, sessions, lifetimes; enumeration and subscriptions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.engine import Answer
from layergate.model import (
    Action,
    AddressMask,
    Callout,
    CalloutFlag,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    FwpError,
    Indication,
    MatchType,
    Provider,
    ProviderContext,
    Range,
    RefusedError,
    Sublayer,
    Value,
    layer_named,
)
from layergate.store import Kind, Object, Relation, Session, State, Store, Template

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
LISTEN = layer_named("ALE_AUTH_LISTEN_V4")
FAST = layer_named("INBOUND_TRANSPORT_FAST")
RPC = layer_named("RPC_UM")
MINE = Sublayer("mine", 0x4000)
NOBODY = Provider("{p}", "nobody")
CALLOUT = Callout("{c}", "asks", CONNECT)
PERSISTENT, BOOT = FilterFlag.PERSISTENT, FilterFlag.BOOTTIME


def rule(name: str = "f", action: Action = Action.BLOCK, **more: object) -> Filter:
    return replace(Filter(0, name, CONNECT, "mine", action), **more)


def port(number: int, match: MatchType = MatchType.EQUAL) -> Condition:
    return Condition("IP_REMOTE_PORT", match, Value(DataType.UINT16, number))


def ports(low: int, high: int) -> Condition:
    ends = Range(Value(DataType.UINT16, low), Value(DataType.UINT16, high))
    return Condition("IP_REMOTE_PORT", MatchType.RANGE, Value(DataType.RANGE, ends))


def asked(number: int = 80) -> Indication:
    return Indication(CONNECT, {"IP_REMOTE_PORT": Value(DataType.UINT16, number)})


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def session(store: Store) -> Session:
    opened = store.open("setup")
    opened.add(MINE)
    return opened


# --- refusals ---------------------------------------------------------------------------------------------------------

TWO_PORTS_APART = (
    port(80),
    Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, 6)),
    port(81),
)
HOLES = Condition("IP_REMOTE_ADDRESS", MatchType.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(0, 0xFF00FF00)))
REFUSED = [
    ("a filter without a name", rule(""), FwpError.NULL_DISPLAY_NAME),
    ("a sublayer that nobody added", rule(sublayer="other"), FwpError.SUBLAYER_NOT_FOUND),
    ("a provider that nobody added", rule(provider="{x}"), FwpError.PROVIDER_NOT_FOUND),
    ("a context that nobody added", rule(context="{x}"), FwpError.PROVIDER_CONTEXT_NOT_FOUND),
    ("a callout that nobody added", rule(action=Action.CALLOUT_UNKNOWN, callout="{x}"), FwpError.CALLOUT_NOT_FOUND),
    ("a callout's action without a callout", rule(action=Action.CALLOUT_UNKNOWN), FwpError.CALLOUT_NOT_FOUND),
    ("a plain action with a callout", rule(callout="{c}"), FwpError.INVALID_ACTION_TYPE),
    ("the action continue", rule(action=Action.CONTINUE), FwpError.INVALID_ACTION_TYPE),
    (
        "a callout of another layer",
        rule(action=Action.CALLOUT_UNKNOWN, callout="{c}", layer=LISTEN),
        FwpError.INCOMPATIBLE_LAYER,
    ),
    ("an internal layer", rule(layer=FAST), FwpError.INCOMPATIBLE_LAYER),
    ("boot time at a layer of user mode", rule(layer=RPC, flags=BOOT), FwpError.INCOMPATIBLE_LAYER),
    ("boot time and persistent", rule(flags=BOOT | PERSISTENT), FwpError.INVALID_FLAGS),
    ("disabled", rule(flags=FilterFlag.DISABLED), FwpError.INVALID_FLAGS),
    (
        "permit if unregistered on a plain block",
        rule(flags=FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED),
        FwpError.INVALID_FLAGS,
    ),
    (
        "a block among the inspections",
        rule(sublayer="FWPM_SUBLAYER_INSPECTION"),
        FwpError.ACTION_INCOMPATIBLE_WITH_SUBLAYER,
    ),
    ("a weight range of 16", rule(weight=Value(DataType.UINT8, 16)), FwpError.INVALID_WEIGHT),
    ("a weight of 32 bits", rule(weight=Value(DataType.UINT32, 1)), FwpError.INVALID_WEIGHT),
    (
        "a field that the layer lacks",
        rule(conditions=(Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, 6)),), layer=LISTEN),
        FwpError.CONDITION_NOT_FOUND,
    ),
    (
        "a value of another type",
        rule(conditions=(Condition("IP_REMOTE_PORT", MatchType.EQUAL, Value(DataType.UINT32, 80)),)),
        FwpError.TYPE_MISMATCH,
    ),
    (
        "a match type that the field can't take",
        rule(conditions=(port(80, MatchType.PREFIX),)),
        FwpError.MATCH_TYPE_MISMATCH,
    ),
    ("a range upside down", rule(conditions=(ports(81, 80),)), FwpError.INVALID_RANGE),
    ("conditions on one field that stand apart", rule(conditions=TWO_PORTS_APART), FwpError.DUPLICATE_CONDITION),
    ("a mask with holes", rule(conditions=(HOLES,)), FwpError.INVALID_NET_MASK),
    ("what can never match", rule(conditions=(port(0, MatchType.LESS),)), FwpError.NEVER_MATCH),
    ("a taken key", Sublayer("again", 1, key="mine"), FwpError.ALREADY_EXISTS),
    ("a sublayer of no weight", Sublayer("heavy", 0x10000), FwpError.OUT_OF_BOUNDS),
    ("a persistent filter in a sublayer that is not", rule(flags=PERSISTENT), FwpError.LIFETIME_MISMATCH),
    ("a boot-time filter too", rule(flags=BOOT), FwpError.LIFETIME_MISMATCH),
]


@pytest.mark.parametrize("item, code", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_has_its_name_and_changes_nothing(session: Session, item: Object, code: FwpError) -> None:
    session.add(CALLOUT)
    before = session.store.view()
    with pytest.raises(RefusedError) as refused:
        session.add(item)
    assert refused.value.code is code
    assert str(refused.value).startswith(f"FWP_E_{code.name}: ")
    assert refused.value.remedy
    assert session.store.view() is before


def test_error_numbers_are_the_platforms() -> None:
    assert FwpError.CALLOUT_NOT_FOUND == 0x80320001
    assert FwpError.LIFETIME_MISMATCH == 0x80320016
    assert FwpError.INVALID_CIPHER_TRANSFORM == 0x80320039
    assert len(FwpError) == 57


def test_persistent_objects_refer_to_those_of_their_own_provider_or_of_none(session: Session) -> None:
    for key in ("{a}", "{b}"):
        session.add(Provider(key, key, persistent=True))
    session.add(Sublayer("of a", 1, provider="{a}", persistent=True))
    session.add(Sublayer("of none", 2, persistent=True))
    with pytest.raises(RefusedError, match=r"FWP_E_LIFETIME_MISMATCH.*of another provider"):
        session.add(rule(sublayer="of a", provider="{b}", flags=PERSISTENT))
    session.add(rule(sublayer="of a", provider="{a}", flags=PERSISTENT))
    session.add(rule(sublayer="of none", provider="{b}", flags=PERSISTENT))
    session.add(rule(sublayer="of a", provider="{b}"))


def test_what_is_referred_to_is_in_use(session: Session) -> None:
    session.add(NOBODY)
    session.add(CALLOUT)
    context = session.add(ProviderContext("{x}", "origin"))
    added = session.add(rule(action=Action.CALLOUT_UNKNOWN, callout="{c}", provider="{p}", context=context.key))
    assert FilterFlag.HAS_PROVIDER_CONTEXT in added.flags
    every = ((Kind.SUBLAYER, "mine"), (Kind.PROVIDER, "{p}"), (Kind.CALLOUT, "{c}"), (Kind.CONTEXT, "{x}"))
    for kind, key in every:
        with pytest.raises(RefusedError, match=r"FWP_E_IN_USE.*filter 'f' refers to it"):
            session.delete(kind, key)
    session.delete_filter(added.id)
    for kind, key in every:
        session.delete(kind, key)
    with pytest.raises(RefusedError, match=r"FWP_E_FILTER_NOT_FOUND"):
        session.delete_filter(added.id)


def test_what_is_the_platforms_own_stays(session: Session) -> None:
    with pytest.raises(RefusedError, match=r"FWP_E_BUILTIN_OBJECT"):
        session.delete(Kind.SUBLAYER, "FWPM_SUBLAYER_UNIVERSAL")
    assert session.get(Kind.CALLOUT, "FWPM_CALLOUT_WFP_TRANSPORT_LAYER_V4_SILENT_DROP").id == 17


# --- what the engine fills in -----------------------------------------------------------------------------------------


def test_ids_are_given_and_never_used_again(session: Session) -> None:
    first = session.add(rule("a"))
    session.delete(Kind.FILTER, first.key)
    second = session.add(rule("b"))
    assert (first.id, second.id) == (1, 2)
    assert first.key != second.key
    assert session.add(CALLOUT).id == 51


def test_a_filter_without_a_sublayer_is_in_the_layers_own(session: Session) -> None:
    assert session.add(rule(sublayer="")).sublayer == "FWPM_SUBLAYER_UNIVERSAL"


def test_sublayers_of_one_weight_count_down(session: Session) -> None:
    assert [session.add(Sublayer(name, 0xFFFF)).weight for name in "abc"] == [65535, 65534, 65533]


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_shows_nobody_else_anything_before_it_is_committed(store: Store, session: Session) -> None:
    reader = store.open("reader")
    transaction = session.begin()
    added = transaction.add(rule())
    assert [item.id for item in session.filters()] == [added.id]
    assert reader.filters() == []
    assert store.classify(asked()).action is Action.PERMIT
    transaction.commit()
    assert reader.filters() == [added]
    assert store.classify(asked()).filter == added


def test_a_reader_keeps_its_version_whatever_is_written(store: Store, session: Session) -> None:
    session.add(rule("a"))
    reading = store.open("reader").begin(is_read_only=True)
    session.add(rule("b"))
    assert [item.name for item in reading.filters()] == ["a"]
    with pytest.raises(RefusedError, match=r"FWP_E_INCOMPATIBLE_TXN"):
        reading.add(rule("c"))
    reading.commit()
    with pytest.raises(RefusedError, match=r"FWP_E_NO_TXN_IN_PROGRESS"):
        reading.filters()


def test_an_aborted_transaction_has_not_been(store: Store, session: Session) -> None:
    before = store.view()

    def spoiled() -> None:
        with session.begin() as transaction:
            transaction.add(rule())
            transaction.add(rule(sublayer="nowhere"))

    with pytest.raises(RefusedError):
        spoiled()
    assert store.view() is before
    assert store.version == before.version


def test_a_refusal_does_not_spoil_the_transaction(store: Store, session: Session) -> None:
    with session.begin() as transaction:
        kept = transaction.add(rule("kept"))
        with pytest.raises(RefusedError):
            transaction.add(rule("refused", sublayer="nowhere"))
    assert store.policy().filters == (kept,)


def test_a_session_has_one_transaction_at_a_time(session: Session) -> None:
    session.begin()
    with pytest.raises(RefusedError, match=r"FWP_E_TXN_IN_PROGRESS"):
        session.begin(is_read_only=True)
    with pytest.raises(RefusedError, match=r"FWP_E_TXN_IN_PROGRESS"):
        session.subscribe(Kind.FILTER)


def test_what_comes_and_goes_in_one_transaction_makes_no_version(store: Store, session: Session) -> None:
    version = store.version
    with session.begin() as transaction:
        added = transaction.add(rule())
        transaction.delete_filter(added.id)
    assert store.version == version


def test_writers_wait_for_one_another_in_order(store: Store, session: Session) -> None:
    first = session.begin(now=0)
    second, third = store.open("2").begin(now=1), store.open("3", wait_s=60).begin(now=1)
    assert [one.state for one in (first, second, third)] == [State.ACTIVE, State.WAITING, State.WAITING]
    with pytest.raises(RefusedError, match=r"FWP_E_TXN_IN_PROGRESS: .*another session's"):
        second.add(rule())
    with pytest.raises(RefusedError, match=r"FWP_E_TIMEOUT: .*begin a transaction"):
        store.open("4").add(rule())
    assert store.poll_at() == 16
    store.advance(16)
    with pytest.raises(RefusedError, match=r"FWP_E_TIMEOUT"):
        second.add(rule())
    first.commit()
    assert third.state is State.ACTIVE
    third.add(rule())
    third.commit()
    assert [item.name for item in store.policy().filters] == ["f"]


def test_a_writer_that_holds_on_too_long_is_aborted_and_one_in_the_kernel_is_not(
    store: Store, session: Session
) -> None:
    slow = session.begin(now=0)
    slow.add(rule())
    store.advance(3600)
    with pytest.raises(RefusedError, match=r"FWP_E_TXN_ABORTED"):
        slow.commit()
    assert store.policy().filters == ()
    driver = store.open("driver", is_kernel_mode=True).begin()
    assert store.poll_at() is None
    store.advance(1e9)
    assert driver.state is State.ACTIVE


# --- lifetimes --------------------------------------------------------------------------------------------------------


def test_a_dynamic_session_takes_what_it_added_with_it(store: Store, session: Session) -> None:
    kept = session.add(rule("kept"))
    with store.open("dynamic", is_dynamic=True) as dynamic:
        dynamic.add(Sublayer("its own", 7))
        dynamic.add(rule("gone", sublayer="its own"))
        with pytest.raises(RefusedError, match=r"FWP_E_LIFETIME_MISMATCH.*another session's"):
            session.add(rule(sublayer="its own"))
        with pytest.raises(RefusedError, match=r"FWP_E_WRONG_SESSION"):
            session.delete(Kind.SUBLAYER, "its own")
        with pytest.raises(RefusedError, match=r"FWP_E_DYNAMIC_SESSION_IN_PROGRESS"):
            dynamic.delete_filter(kept.id)
        with pytest.raises(RefusedError, match=r"FWP_E_DYNAMIC_SESSION_IN_PROGRESS"):
            dynamic.add(Sublayer("for ever", 8, persistent=True))
        assert len(store.policy().filters) == 2
    assert store.policy().filters == (kept,)
    with pytest.raises(RefusedError, match=r"FWP_E_SESSION_ABORTED"):
        dynamic.add(rule())


def test_a_dynamic_session_that_ends_while_another_writes_is_tidied_up_afterwards(
    store: Store, session: Session
) -> None:
    dynamic = store.open("dynamic", is_dynamic=True)
    dynamic.add(rule("gone"))
    writing = session.begin()
    dynamic.close()
    added = writing.add(rule("kept"))
    writing.commit()
    assert store.policy().filters == (added,)


def test_closing_a_session_aborts_its_transaction(store: Store, session: Session) -> None:
    other = store.open("other")
    other.begin().add(rule())
    other.close()
    other.close()
    session.add(rule("kept"))
    assert [item.name for item in store.policy().filters] == ["kept"]


def test_after_a_restart_only_what_is_persistent_is_there_and_only_where_its_service_starts(
    store: Store, session: Session
) -> None:
    for key, service in (("{auto}", "starts"), ("{manual}", "does not"), ("{none}", "")):
        session.add(Provider(key, key, service=service, persistent=True))
    session.add(Sublayer("stays", 9, persistent=True))
    session.add(rule("static"))
    session.add(rule("boot", sublayer="stays", flags=BOOT))
    for provider in ("{auto}", "{manual}", "{none}", ""):
        session.add(rule(f"of {provider}", sublayer="stays", provider=provider, flags=PERSISTENT))
    store.restart(lambda service: service == "starts")
    heard = {item.name: FilterFlag.DISABLED in item.flags for item in store.policy().filters}
    assert heard == {"boot": False, "of {auto}": False, "of {manual}": True, "of {none}": False, "of ": False}
    assert "mine" not in {sublayer.name for sublayer in store.policy().sublayers}
    with pytest.raises(RefusedError, match=r"FWP_E_SESSION_ABORTED"):
        session.filters()
    store.restart()
    assert not any(FilterFlag.DISABLED in item.flags for item in store.policy().filters)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_every_version_can_be_asked_until_it_is_forgotten(store: Store, session: Session) -> None:
    first = session.add(rule("a", action=Action.PERMIT, weight=Value(DataType.UINT64, 9)))
    one = store.version
    second = session.add(rule("b", weight=Value(DataType.UINT64, 99)))
    session.delete_filter(first.id)
    assert store.classify(asked(), one).filter == first
    assert store.classify(asked(), one + 1).filter == second
    assert store.policy(one).filters == (first,)
    assert store.policy(one + 1).filters == (first, second)
    store.forget(before=one + 1)
    with pytest.raises(RefusedError, match=rf"FWP_E_NOT_FOUND: version {one}: .*one of {one + 1} to {one + 2}"):
        store.policy(one)
    assert store.policy(one + 1).filters == (first, second)


def test_a_layers_version_is_that_of_its_last_change(store: Store, session: Session) -> None:
    session.add(rule("a"))
    at_connect = store.version
    session.add(rule("b", layer=LISTEN))
    session.add(Sublayer("other", 3))
    session.add(rule("boot", sublayer="FWPM_SUBLAYER_UNIVERSAL", flags=BOOT))
    assert store.policy().layer_versions == {CONNECT.id: at_connect, LISTEN.id: at_connect + 1}
    assert store.policy(at_connect).layer_versions == {CONNECT.id: at_connect}


def test_callouts_answer_once_they_are_registered(store: Store, session: Session) -> None:
    session.add(replace(CALLOUT, flags=CalloutFlag.REGISTERED))
    session.add(rule(action=Action.CALLOUT_TERMINATING, callout="{c}"))
    assert store.classify(asked()).action is Action.BLOCK
    store.register("{c}", lambda _: Answer(Action.PERMIT))
    assert store.classify(asked()).action is Action.PERMIT
    with pytest.raises(RefusedError, match=r"FWP_E_ALREADY_EXISTS"):
        store.register("{c}", lambda _: None)
    store.unregister("{c}")
    assert store.classify(asked()).action is Action.BLOCK
    with pytest.raises(RefusedError, match=r"FWP_E_CALLOUT_NOT_FOUND"):
        store.unregister("{c}")


# --- enumeration and subscriptions ------------------------------------------------------------------------------------


def test_templates_pick_filters(session: Session) -> None:
    session.add(NOBODY)
    session.add(CALLOUT)
    for item in (
        rule("any"),
        rule("web", conditions=(port(80),)),
        rule("high", conditions=(ports(1024, 65535),), action=Action.PERMIT),
        rule("listen", layer=LISTEN, provider="{p}"),
        rule("asks", action=Action.CALLOUT_INSPECTION, callout="{c}"),
        rule("boot", sublayer="", flags=BOOT),
    ):
        session.add(item)

    def names(**template: object) -> list[str]:
        return [item.name for item in session.filters(Template(**template))]

    assert names() == ["any", "web", "high", "listen", "asks"]
    assert names(layer=CONNECT, conditions=(port(80),)) == ["any", "web", "asks"]
    assert names(conditions=(ports(80, 2000),), relation=Relation.CONTAINING) == ["any", "listen", "asks"]
    assert names(conditions=(port(2000),), relation=Relation.CONTAINING) == ["any", "high", "listen", "asks"]
    assert names(provider="{p}") == ["listen"]
    assert names(callout="{c}") == ["asks"]
    assert names(action_mask=0x1000) == ["any", "web", "high", "listen"]
    assert names(with_boot_time=True)[-1] == "boot"
    assert names(boot_time_only=True) == ["boot"]
    assert names(layer=CONNECT, is_sorted=True) == ["web", "high", "any", "asks"]
    assert names(layer=CONNECT, best_only=True) == ["web"]
    with pytest.raises(RefusedError, match=r"FWP_E_DUPLICATE_CONDITION"):
        Template(conditions=(port(80), port(81)))


def test_a_subscription_hears_of_others_changes_and_counts_what_it_lost(store: Store, session: Session) -> None:
    hears = store.open("listener").subscribe(Kind.FILTER, Template(layer=CONNECT), depth_max=2)
    own = session.subscribe(Kind.FILTER)
    added = session.add(rule("a"))
    session.add(rule("elsewhere", layer=LISTEN))
    session.delete_filter(added.id)
    assert [(change.record.object.name, change.is_added) for change in hears.take()] == [("a", True), ("a", False)]
    assert (hears.take(), own.take(), hears.lost) == ([], [], 0)
    for name in "bcd":
        session.add(rule(name))
    assert ([change.record.object.name for change in hears.take()], hears.lost) == (["b", "c"], 1)
