"""Objects with versions: providers, sublayers, callouts and filters, and who may change them.

`Store` holds them; a `Session` adds and deletes in transactions; every commit is a version, and a classification names
one. `Template` asks for filters, a `Subscription` hears of changes. `succeed` is the short form for one who always
puts a whole policy in place of another: unchanged filters keep their ids, new ids are never reused, and every layer
knows the version in which it last changed. No clock: time is an argument.
"""

from layergate.store.enumeration import Relation, Template
from layergate.store.records import Kind, Lifetime, Object, Record, View
from layergate.store.sessions import Session, State, Transaction
from layergate.store.store import Store, policy_of
from layergate.store.subscriptions import Change, Subscription
from layergate.store.versions import succeed

__all__ = [
    "Change",
    "Kind",
    "Lifetime",
    "Object",
    "Record",
    "Relation",
    "Session",
    "State",
    "Store",
    "Subscription",
    "Template",
    "Transaction",
    "View",
    "policy_of",
    "succeed",
]
