"""Objects with versions: what a new policy keeps of the one before it.

`succeed` gives the policy that follows another: unchanged filters keep their ids, new ids are never reused, and every
layer knows the version in which it last changed. Pure: the store holds no state of its own.
"""

from layergate.store.versions import succeed

__all__ = ["succeed"]
