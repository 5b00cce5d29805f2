"""Sessions and their transactions.

A session has one transaction at a time; an operation outside of one has a transaction of its own. In a dynamic session
only what the session itself added may be deleted, and nothing persistent may be added.

    with store.open("setup") as session, session.begin() as transaction:
        transaction.add(Sublayer("mine", 0x4000))
        added = transaction.add(Filter(0, "no telnet", layer, "mine", Action.BLOCK, conditions))

leaves both or, when an exception comes by, neither.
Source: Microsoft, "Object Management", FwpmEngineOpen0, FwpmTransactionBegin0, FwpmFilterDeleteById0.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self, TypeVar

from layergate.model import Filter, FwpError, RefusedError
from layergate.store.checks import check, refuse
from layergate.store.enumeration import Template, select
from layergate.store.records import NOT_FOUND, Kind, Lifetime, Object, Record, View, is_persistent, named
from layergate.store.subscriptions import Change, Subscription

if TYPE_CHECKING:
    from layergate.store.store import Store

T = TypeVar("T", bound=Object)
Anything = TypeVar("Anything")

QUEUE_DEPTH_MAX: Final = 10_000


class State(enum.StrEnum):
    """Where a transaction is."""

    WAITING = "waiting"
    ACTIVE = "active"
    COMMITTED = "committed"
    GIVEN_UP = "given up"
    ABORTED = "aborted"
    TIMED_OUT = "timed out"


_WHY_NOT: Final = {
    State.WAITING: (FwpError.TXN_IN_PROGRESS, "another session's is in progress", "advance the clock until it ends"),
    State.COMMITTED: (FwpError.NO_TXN_IN_PROGRESS, "it is committed", "begin another one"),
    State.GIVEN_UP: (FwpError.NO_TXN_IN_PROGRESS, "it was aborted", "begin another one"),
    State.ABORTED: (FwpError.TXN_ABORTED, "it lasted too long", "begin another one, and end it sooner"),
    State.TIMED_OUT: (FwpError.TIMEOUT, "another session's did not end in time", "begin again, or wait longer"),
}  # fmt: skip


class Transaction:
    """A row of operations that is done as a whole or not at all. Made by `Session.begin`.

    As a context manager it commits at the end, and aborts when an exception comes by.
    """

    def __init__(self, session: Session, *, is_read_only: bool) -> None:
        self.session, self.is_read_only = session, is_read_only
        self.state = State.WAITING
        self.deadline: float | None = None
        self._view: View | None = None
        self._kinds: dict[Kind, dict[str, Record]] = {}
        self._changes: list[Change] = []

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or abort where it ends by an exception."""
        if kind is None:
            self.commit()
        elif self.state in (State.ACTIVE, State.WAITING):
            self.abort()

    # --- for the store ------------------------------------------------------------------------------------------------

    def start(self, view: View) -> None:
        """Begin on *view*."""
        self._view, self.state = view, State.ACTIVE

    def end(self, state: State) -> None:
        """Be over, for the reason *state*."""
        self.state, self._view, self._kinds, self._changes = state, None, {}, []

    # --- for the session ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """Return what this transaction sees: its own changes on top of the version that it began with.

        Raises RefusedError where it is not active.
        """
        if self._view is None or self.state is not State.ACTIVE:
            self._refuse()
        if not self._kinds:
            return self._view
        return replace(self._view, records=MappingProxyType({**self._view.records, **self._kinds}))

    def _refuse(self) -> NoReturn:
        code, found, remedy = _WHY_NOT[self.state]
        raise RefusedError(code, f"transaction of {self.session}", found, remedy)

    def add(self, item: T) -> T:
        """Add *item*; return it as it was added, with its key and run-time id. Raises RefusedError: nothing changed."""
        view = self._writable(item)
        session = self.session
        if session.is_dynamic and is_persistent(item):
            refuse(
                FwpError.DYNAMIC_SESSION_IN_PROGRESS,
                item,
                "a persistent object in a dynamic session",
                "a session that is not dynamic",
            )
        lifetime = (
            Lifetime.DYNAMIC if session.is_dynamic else Lifetime.PERSISTENT if is_persistent(item) else Lifetime.STATIC
        )
        owner = session.id if session.is_dynamic else None
        if isinstance(item, Filter) and not item.sublayer:
            item = replace(item, sublayer=item.layer.default_sublayer)
        check(item, lifetime, owner, view)
        added = session.store.numbered(item, view)
        record = Record(added, lifetime, view.version + 1, owner)
        self._draft(record.kind, view)[added.key] = record
        self._changes.append(Change(record, is_added=True))
        return added  # type: ignore[return-value]

    def delete(self, kind: Kind, key: str) -> None:
        """Delete the object *key* of *kind*. Raises RefusedError: nothing changed."""
        view = self._writable(f"{kind} {key}")
        record = view.get(kind, key)
        if record is None:
            refuse(NOT_FOUND[kind], f"{kind} {key}", "there is none", "the key of an object that is there")
        self._check_delete(record, view)
        del self._draft(kind, view)[key]
        # What came in this very transaction goes without a trace.
        came = [change for change in self._changes if change.record is record]
        if came:
            self._changes.remove(came[0])
        else:
            self._changes.append(Change(record, is_added=False))

    def delete_filter(self, number: int) -> None:
        """Delete the filter with the run-time id *number*. Raises RefusedError: nothing changed. Cost: O(filters)."""
        self.delete(Kind.FILTER, _filter_by_id(self.view, number).key)

    def get(self, kind: Kind, key: str) -> Object:
        """Return the object *key* of *kind*. Raises RefusedError."""
        record = self.view.get(kind, key)
        if record is None:
            refuse(NOT_FOUND[kind], f"{kind} {key}", "there is none", "the key of an object that is there")
        return record.object

    def filters(self, template: Template | None = None) -> list[Filter]:
        """Return the filters that *template* picks, as they are now. Raises RefusedError."""
        return select(self.view, template or Template())

    def objects(self, kind: Kind) -> Iterator[Object]:
        """Return all objects of *kind*, as they are now. Raises RefusedError."""
        return (record.object for record in list(self.view.all(kind)))

    def commit(self) -> None:
        """Make everything of it the next version. Raises RefusedError."""
        view = self.view
        if not self.is_read_only:
            self.session.store.commit(self, replace(view, version=view.version + 1), self._changes)
        self._finish(State.COMMITTED)

    def abort(self) -> None:
        """Forget everything of it. Raises RefusedError where there is nothing to abort."""
        if self.state not in (State.ACTIVE, State.WAITING):
            self._refuse()
        self._finish(State.GIVEN_UP)

    def _finish(self, state: State) -> None:
        self.end(state)
        self.session.store.ended(self)

    def _writable(self, subject: Object | str) -> View:
        view = self.view
        if self.is_read_only:
            refuse(
                FwpError.INCOMPATIBLE_TXN, subject, "a change in a read-only transaction", "begin one that may write"
            )
        return view

    def _draft(self, kind: Kind, view: View) -> dict[str, Record]:
        """Return this transaction's own copy of the objects of *kind*."""
        if kind not in self._kinds:
            self._kinds[kind] = dict(view.records[kind])
        return self._kinds[kind]

    def _check_delete(self, record: Record, view: View) -> None:
        item = record.object
        if record.lifetime is Lifetime.BUILT_IN:
            refuse(FwpError.BUILTIN_OBJECT, item, "it is the platform's own", "leave it")
        if record.lifetime is Lifetime.DYNAMIC and record.session != self.session.id:
            refuse(
                FwpError.WRONG_SESSION,
                item,
                "it is another dynamic session's",
                "delete it in that session, or end that",
            )
        if self.session.is_dynamic and record.lifetime is not Lifetime.DYNAMIC:
            refuse(
                FwpError.DYNAMIC_SESSION_IN_PROGRESS,
                item,
                f"it is {record.lifetime.word}",
                "delete it in a session that is not dynamic",
            )
        if record.kind is not Kind.FILTER:
            other = next(view.referring_to(record.kind, item.key), None)
            if other is not None:
                refuse(FwpError.IN_USE, item, f"{named(other.object)} refers to it", "delete that first")


def _filter_by_id(view: View, number: int) -> Filter:
    items = (record.object for record in view.all(Kind.FILTER))
    found = next((item for item in items if isinstance(item, Filter) and item.id == number), None)
    if found is not None:
        return found
    return refuse(FwpError.FILTER_NOT_FOUND, f"filter {number}", "there is none", "the id of a filter that is there")


class Session:
    """Somebody who reads and changes the objects. Made by `Store.open`; a context manager that closes itself."""

    def __init__(
        self, store: Store, number: int, name: str, *, is_dynamic: bool, is_kernel_mode: bool, wait_s: float
    ) -> None:
        self.store, self.id, self.name = store, number, name
        self.is_dynamic, self.is_kernel_mode, self.wait_s = is_dynamic, is_kernel_mode, wait_s
        self._transaction: Transaction | None = None
        self._is_open = True

    def __str__(self) -> str:
        """Return what to call it in a message."""
        return f"session '{self.name}'" if self.name else f"session {self.id}"

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Close it."""
        self.close()

    def begin(self, now: float = 0.0, *, is_read_only: bool = False) -> Transaction:
        """Begin a transaction at *now*; one that is to write may have to wait (`Transaction.state`).

        Raises RefusedError where this session has one already.
        """
        self._require_open()
        self.store.advance(now)
        if self.transaction is not None:
            raise RefusedError(
                FwpError.TXN_IN_PROGRESS, str(self), "it has a transaction", "commit or abort that first"
            )
        transaction = Transaction(self, is_read_only=is_read_only)
        if is_read_only:
            transaction.start(self.store.view())
        else:
            self.store.request(transaction)
        self._transaction = transaction
        return transaction

    @property
    def transaction(self) -> Transaction | None:
        """Return the transaction that is active or waits, None for none."""
        running = self._transaction
        return running if running and running.state in (State.ACTIVE, State.WAITING) else None

    def add(self, item: T) -> T:
        """As `Transaction.add`, in the running transaction or in one of its own."""
        return self._alone(lambda transaction: transaction.add(item))

    def delete(self, kind: Kind, key: str) -> None:
        """As `Transaction.delete`, in the running transaction or in one of its own."""
        self._alone(lambda transaction: transaction.delete(kind, key))

    def delete_filter(self, number: int) -> None:
        """As `Transaction.delete_filter`, in the running transaction or in one of its own."""
        self._alone(lambda transaction: transaction.delete_filter(number))

    def _alone(self, operation: Callable[[Transaction], Anything]) -> Anything:
        self._require_open()
        running = self.transaction
        if running is not None:
            return operation(running)
        writer = self.store.writer
        if writer is not None:
            found = f"{writer.session} has a transaction"
            raise RefusedError(
                FwpError.TIMEOUT, str(self), found, "begin a transaction: that waits for the other to end"
            )
        with self.begin(self.store.now) as transaction:
            return operation(transaction)

    def get(self, kind: Kind, key: str) -> Object:
        """Return the object *key* of *kind*, as the running transaction or everybody sees it. Raises RefusedError."""
        return self._reading(lambda transaction: transaction.get(kind, key))

    def filters(self, template: Template | None = None) -> list[Filter]:
        """Return the filters that *template* picks. Raises RefusedError."""
        return self._reading(lambda transaction: transaction.filters(template))

    def _reading(self, operation: Callable[[Transaction], Anything]) -> Anything:
        running = self.transaction
        if running is not None:
            return operation(running)
        with self.begin(self.store.now, is_read_only=True) as transaction:
            return operation(transaction)

    def subscribe(
        self,
        kind: Kind,
        template: Template | None = None,
        *,
        on_add: bool = True,
        on_delete: bool = True,
        depth_max: int = QUEUE_DEPTH_MAX,
    ) -> Subscription:
        """Ask for the changes that other sessions make to objects of *kind*, of filters those that *template* picks."""
        self._require_open()
        if self.transaction is not None:
            raise RefusedError(
                FwpError.TXN_IN_PROGRESS, str(self), "a subscription in a transaction", "subscribe before or after"
            )

        def wanted(item: Object) -> bool:
            return template is None or not isinstance(item, Filter) or template.picks(item)

        subscription = Subscription(self, kind, wanted, on_add, on_delete, depth_max)
        self.store.subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """End it: a running transaction is aborted; what a dynamic session added is gone. Closing twice is once."""
        if not self._is_open:
            return
        if self.transaction is not None:
            self.transaction.abort()
        self._is_open = False
        self.store.close(self)

    def abandon(self) -> None:
        """End it because the engine ends."""
        if self.transaction is not None:
            self.transaction.end(State.ABORTED)
        self._is_open = False
        self.store.sessions.pop(self.id, None)

    def _require_open(self) -> None:
        if not self._is_open:
            raise RefusedError(FwpError.SESSION_ABORTED, str(self), "the session has ended", "open another one")
