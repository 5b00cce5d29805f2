"""The filter engine's objects, in versions; who may change them, and when.

- Every commit makes a version. A view holds all of one version and never changes: whoever reads one, in a read-only
  transaction or to classify, sees that version whole, whatever is written meanwhile. Readers never wait.
- One transaction writes at a time. It works on a draft that nobody else sees; commit makes the draft the next
  version, abort forgets it. A refused operation leaves the draft as it was: the transaction goes on.
- Whoever wants to write meanwhile waits, in order, as long as its session allows; a writer that holds on for an hour is
  aborted. Time is an argument: `advance` says what time it is, `poll_at` when that matters next.
- A layer's version is the one in which its filters last changed: what was authorised in it stays so until then.

- Whoever wants to write meanwhile waits, in order, as long as its session allows; a writer that holds on for an hour
reader that began before still sees version 1.

Source: Microsoft, "Object Management", FWPM_SESSION0, FwpmTransactionBegin0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from layergate.engine import Ordered, classify, in_order, is_heard
from layergate.engine.callouts import CalloutFunction
from layergate.model import (
    Callout,
    CalloutFlag,
    Filter,
    FilterFlag,
    FwpError,
    Indication,
    Policy,
    Provider,
    ProviderContext,
    RefusedError,
    Sublayer,
    Verdict,
    layer_named,
)
from layergate.model.catalogue_data import BUILTIN_CALLOUTS, BUILTIN_SUBLAYERS
from layergate.store.records import Kind, Lifetime, Object, Record, View
from layergate.store.sessions import Session, State, Transaction
from layergate.store.subscriptions import Change, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT_S: Final = 15.0
"""How long a transaction waits for another one to end, where its session says nothing else."""

OWNING_S_MAX: Final = 3600.0
"""How long a user-mode session may hold the right to write."""

VIEWS_MAX: Final = 8
"""How many views of earlier versions are kept at hand; others are put together again from their records."""


class Store:
    """All objects, in all versions that are still wanted.

    Everything goes through a `Session` (`open`), but for what every reader may do: `view`, `policy`, `classify`.
    """

    def __init__(self) -> None:
        built_in = _built_in()
        self.now = 0.0
        self.sessions: dict[int, Session] = {}
        self.callouts: dict[str, CalloutFunction] = {}
        self.subscriptions: list[Subscription] = []
        self._view = View(1, built_in, MappingProxyType({}))
        self._oldest = 1
        self._removed: list[Record] = []
        self._layer_versions: dict[int, Mapping[int, int]] = {1: self._view.layer_versions}
        self._views: dict[int, View] = {}
        self._ordered: tuple[int, Ordered] | None = None
        self._writer: Transaction | None = None
        self._waiting: deque[Transaction] = deque()
        self._closing: deque[Session] = deque()
        self._ids = {
            Kind.FILTER: 0,
            Kind.CALLOUT: max(number for _, number, _ in BUILTIN_CALLOUTS.values()),
            Kind.CONTEXT: 0,
        }
        self._keys = self._opened = 0

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open(
        self,
        name: str = "",
        *,
        now: float = 0.0,
        is_dynamic: bool = False,
        is_kernel_mode: bool = False,
        wait_s: float = WAIT_S,
    ) -> Session:
        """Open a session.

        Args:
            name: for people.
            now: what time it is, in seconds.
            is_dynamic: what it adds dies with it.
            is_kernel_mode: its transactions are never aborted for lasting long.
            wait_s: how long its transactions wait for others.
        """
        self.advance(now)
        self._opened += 1
        session = Session(self, self._opened, name, is_dynamic=is_dynamic, is_kernel_mode=is_kernel_mode, wait_s=wait_s)
        self.sessions[session.id] = session
        return session

    def advance(self, now: float) -> None:
        """Say what time it is: what has waited or held on too long ends. Cost: O(waiting)."""
        self.now = max(self.now, now)
        if self._writer is not None and self._writer.deadline is not None and self._writer.deadline <= self.now:
            self._writer.end(State.ABORTED)
            self._release()
        for waiting in list(self._waiting):
            if waiting.deadline is not None and waiting.deadline <= self.now:
                self._waiting.remove(waiting)
                waiting.end(State.TIMED_OUT)

    def poll_at(self) -> float | None:
        """Return when `advance` has something to do, None where nothing waits."""
        running = (self._writer, *self._waiting)
        return min((one.deadline for one in running if one is not None and one.deadline is not None), default=None)

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Return the latest version."""
        return self._view.version

    def view(self, version: int | None = None) -> View:
        """Return all that holds in *version* (default: the latest).

        Raises RefusedError (NOT_FOUND) for a version that is forgotten or has not been. Cost: O(objects) where it has
        to be put together again.
        """
        if version is None or version == self._view.version:
            return self._view
        if not self._oldest <= version <= self._view.version:
            known = f"{self._oldest} to {self._view.version}"
            raise RefusedError(FwpError.NOT_FOUND, f"version {version}", "there is no such version", f"one of {known}")
        if version not in self._views:
            while len(self._views) >= VIEWS_MAX:
                del self._views[min(self._views)]
            self._views[version] = self._put_together(version)
        return self._views[version]

    def _put_together(self, version: int) -> View:
        kinds: dict[Kind, dict[str, Record]] = {kind: {} for kind in Kind}
        current = (record for records in self._view.records.values() for record in records.values())
        held = [record for record in (*self._removed, *current) if record.holds_in(version)]
        for record in sorted(held, key=lambda record: record.added):
            kinds[record.kind][record.object.key] = record
        return View(version, MappingProxyType(kinds), self._layer_versions[version])

    def forget(self, before: int) -> None:
        """Forget the versions below *before*: nobody asks for them any more. The latest is kept."""
        self._oldest = max(self._oldest, min(before, self._view.version))
        self._removed = [record for record in self._removed if (record.removed or 0) > self._oldest]
        for kept in (self._views, self._layer_versions):
            for version in [version for version in kept if version < self._oldest]:
                del kept[version]

    def policy(self, version: int | None = None) -> Policy:
        """Return what is in force in *version* as a policy. Raises as `view`."""
        return policy_of(self.view(version), self._ids[Kind.FILTER])

    def ordered(self, version: int | None = None) -> Ordered:
        """Return the filters of *version* in the order in which they are heard. Raises as `view`."""
        wanted = self.version if version is None else version
        if self._ordered is None or self._ordered[0] != wanted:
            self._ordered = wanted, in_order(self.policy(wanted))
        return self._ordered[1]

    def classify(self, indication: Indication, version: int | None = None) -> Verdict:
        """Decide *indication* by *version*, with the callouts that are registered. Raises as `view`."""
        return classify(self.ordered(version), indication, callouts=self.callouts)

    # --- callouts -----------------------------------------------------------------------------------------------------

    def register(self, key: str, function: CalloutFunction) -> None:
        """Let *function* answer for the callout *key*, whether it is added yet or not. Raises RefusedError."""
        if key in self.callouts:
            raise RefusedError(FwpError.ALREADY_EXISTS, f"callout {key}", "it has an answer", "unregister that first")
        self.callouts[key] = function

    def unregister(self, key: str) -> None:
        """Let nobody answer for the callout *key*: its filters block from now on. Raises RefusedError."""
        if self.callouts.pop(key, None) is None:
            raise RefusedError(FwpError.CALLOUT_NOT_FOUND, f"callout {key}", "it has no answer", "register one first")

    # --- the engine's life --------------------------------------------------------------------------------------------

    def restart(self, starts: Callable[[str], bool] = lambda _: True) -> None:
        """Stop the engine and start it: sessions end, what is not persistent is gone.

        A persistent filter is disabled unless it has no provider, or its provider no service, or the service *starts*
        by itself.
        """
        for session in list(self.sessions.values()):
            session.abandon()
        self._waiting.clear()
        self._closing.clear()
        self._writer = None
        self.callouts.clear()
        version = self.version + 1
        kinds: dict[Kind, dict[str, Record]] = {kind: {} for kind in Kind}
        changes = []
        for kind in Kind:
            for record in self._view.all(kind):
                if record.lifetime >= Lifetime.PERSISTENT:
                    kept = self._restarted(record, kinds[Kind.PROVIDER], starts, version)
                    kinds[kind][record.object.key] = kept
                    if kept is not record:
                        changes += [Change(record, is_added=False), Change(kept, is_added=True)]
                else:
                    changes.append(Change(record, is_added=False))
        self._commit(View(version, MappingProxyType(kinds), self._view.layer_versions), changes, None)

    @staticmethod
    def _restarted(record: Record, providers: dict[str, Record], starts: Callable[[str], bool], version: int) -> Record:
        item = record.object
        if not isinstance(item, Filter) or record.lifetime is Lifetime.BUILT_IN:
            return record
        provider = providers[item.provider].object if item.provider else None
        service = provider.service if isinstance(provider, Provider) else ""
        flags = item.flags & ~FilterFlag.DISABLED
        if service and not starts(service):
            flags |= FilterFlag.DISABLED
        return record if flags == item.flags else replace(record, object=replace(item, flags=flags), added=version)

    # --- for sessions and transactions --------------------------------------------------------------------------------

    def request(self, transaction: Transaction) -> None:
        """Give *transaction* the right to write, or let it wait."""
        if self._writer is None and not self._waiting:
            self._grant(transaction)
        else:
            transaction.deadline = self.now + transaction.session.wait_s
            self._waiting.append(transaction)

    @property
    def writer(self) -> Transaction | None:
        """Return who may write just now."""
        return self._writer

    def _grant(self, transaction: Transaction) -> None:
        self._writer = transaction
        transaction.deadline = None if transaction.session.is_kernel_mode else self.now + OWNING_S_MAX
        transaction.start(self._view)

    def _release(self) -> None:
        """Let the next one write; what sessions that closed meanwhile had added goes first."""
        self._writer = None
        while self._closing:
            self._drop_dynamic(self._closing.popleft())
        if self._waiting:
            self._grant(self._waiting.popleft())

    def ended(self, transaction: Transaction) -> None:
        """Take note that *transaction* has ended."""
        if transaction is self._writer:
            self._release()
        elif transaction in self._waiting:
            self._waiting.remove(transaction)

    def commit(self, transaction: Transaction, view: View, changes: list[Change]) -> None:
        """Make *view*, the draft of *transaction*, the next version, if it differs at all."""
        if changes:
            self._commit(view, changes, transaction.session)

    def _commit(self, view: View, changes: Iterable[Change], session: Session | None) -> None:
        changes = tuple(changes)
        touched = {
            change.record.object.layer.id
            for change in changes
            if isinstance(change.record.object, Filter) and is_heard(change.record.object)
        }
        layer_versions = MappingProxyType({**self._view.layer_versions, **dict.fromkeys(touched, view.version)})
        self._removed += [replace(change.record, removed=view.version) for change in changes if not change.is_added]
        self._view = replace(view, layer_versions=layer_versions)
        self._layer_versions[view.version] = layer_versions
        for subscription in self.subscriptions:
            for change in changes:
                subscription.offer(change, session)

    def close(self, session: Session) -> None:
        """Forget *session*, and what it added if it is dynamic: now, or when whoever writes has ended."""
        self.sessions.pop(session.id, None)
        self.subscriptions = [one for one in self.subscriptions if one.session is not session]
        if not session.is_dynamic:
            return
        if self._writer is None:
            self._drop_dynamic(session)
        else:
            self._closing.append(session)

    def _drop_dynamic(self, session: Session) -> None:
        kinds = {kind: dict(records) for kind, records in self._view.records.items()}
        gone = [record for records in kinds.values() for record in records.values() if record.session == session.id]
        for record in gone:
            del kinds[record.kind][record.object.key]
        if gone:
            changes = [Change(record, is_added=False) for record in gone]
            self._commit(View(self.version + 1, MappingProxyType(kinds), self._view.layer_versions), changes, session)

    def numbered(self, item: Object, view: View) -> Object:
        """Return *item* with what the engine gives it: a key, a run-time id, a sublayer weight of its own."""
        if not item.key:
            self._keys += 1
            item = replace(item, key=f"{{{self._keys:08x}-0000-4000-8000-000000000000}}")
        if isinstance(item, Sublayer):
            return replace(item, weight=_free_weight(item.weight, view))
        if isinstance(item, Callout):
            self._ids[Kind.CALLOUT] += 1
            return replace(item, id=self._ids[Kind.CALLOUT], flags=item.flags & ~CalloutFlag.REGISTERED)
        if isinstance(item, Filter):
            self._ids[Kind.FILTER] += 1
            flags = item.flags | (FilterFlag.HAS_PROVIDER_CONTEXT if item.context else FilterFlag.NONE)
            return replace(item, id=self._ids[Kind.FILTER], flags=flags)
        if isinstance(item, ProviderContext):
            self._ids[Kind.CONTEXT] += 1
            return replace(item, id=self._ids[Kind.CONTEXT])
        return item


def policy_of(view: View, last_id: int = 0) -> Policy:
    """Return *view* as a policy; its filters in the order of their ids. Cost: O(objects)."""

    def all_of(kind: Kind) -> list[Object]:
        return [record.object for record in view.all(kind)]

    filters = [item for item in all_of(Kind.FILTER) if isinstance(item, Filter)]
    return Policy(
        sublayers=tuple(item for item in all_of(Kind.SUBLAYER) if isinstance(item, Sublayer)),
        filters=tuple(sorted(filters, key=lambda item: item.id)),
        version=view.version,
        layer_versions=dict(view.layer_versions),
        last_id=max([last_id, *(item.id for item in filters)]),
        callouts=tuple(item for item in all_of(Kind.CALLOUT) if isinstance(item, Callout)),
        providers=tuple(item for item in all_of(Kind.PROVIDER) if isinstance(item, Provider)),
        contexts=tuple(item for item in all_of(Kind.CONTEXT) if isinstance(item, ProviderContext)),
    )


def _built_in() -> Mapping[Kind, Mapping[str, Record]]:
    kinds: dict[Kind, dict[str, Record]] = {kind: {} for kind in Kind}
    for name, (weight, display) in BUILTIN_SUBLAYERS.items():
        kinds[Kind.SUBLAYER][name] = Record(Sublayer(name, weight, display), Lifetime.BUILT_IN, added=1)
    for name, (layer_name, number, display) in BUILTIN_CALLOUTS.items():
        layer = layer_named(layer_name)
        assert layer is not None
        kinds[Kind.CALLOUT][name] = Record(Callout(name, display, layer, id=number), Lifetime.BUILT_IN, added=1)
    return MappingProxyType(kinds)


def _free_weight(weight: int, view: View) -> int:
    """Return *weight*, or the next lower one that no sublayer has: real hosts show weights counted down so."""
    taken = {record.object.weight for record in view.all(Kind.SUBLAYER) if isinstance(record.object, Sublayer)}
    return next((one for one in range(weight, -1, -1) if one not in taken), weight)
