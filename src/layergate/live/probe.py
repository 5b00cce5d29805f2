"""What this machine can do: every object loaded and every program attached for a moment, where nothing is touched.

A control group and a network namespace of our own are made for it and removed; a layer is available when the program
that stands for it was loaded and attached, not when it should be.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from layergate.kernel.cgroups import Hierarchy
from layergate.kernel.hooks import HOOK_BY_LAYER
from layergate.kernel.loader import Programs, Settings
from layergate.kernel.netns import CLONE_NEWNET, Namespace
from layergate.model import LAYERS, Layer, NotSupportedError

LOOPBACK: Final = 1
NO_HOOK: Final = "layergate has no hook for it"
WINDOWS_ONLY: Final = "user mode, MAC and virtual switch layers are Windows' own"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a layer is enforced on this machine; if not, why and what to do."""

    layer: Layer
    hook: str | None
    available: bool
    cause: str | None
    remedy: str | None


def probe() -> list[Availability]:
    """Return the availability of every layer. Cost: under a second. Raises NotSupportedError: no cgroup2, not root."""
    refused = _refused()
    result = []
    for layer in LAYERS:
        hook = HOOK_BY_LAYER.get(layer.base)
        if hook is None:
            cause = NO_HOOK if layer.kernel_mode and layer.family else WINDOWS_ONLY
            result.append(Availability(layer, hook=None, available=False, cause=cause, remedy=None))
            continue
        error = refused.get(hook.program)
        result.append(
            Availability(
                layer,
                hook.hook,
                error is None,
                f"{error.hook}: {error.cause}" if error else None,
                error.remedy if error else None,
            )
        )
    return result


def _refused() -> dict[str, NotSupportedError]:
    """Return, by program, why the kernel refuses it."""
    hierarchy = Hierarchy()
    here = hierarchy.own()
    with ExitStack() as leave:
        leave.callback(hierarchy.close)
        group = hierarchy.make(f"{here.rstrip('/')}/lg-doctor-{os.getpid()}")
        leave.callback(hierarchy.remove, group, keep_in=here)
        leave.callback(os.close, group.fd)
        try:
            programs = Programs(Settings(group, ring_bytes=1 << 16))
            leave.callback(programs.close)
            programs.attach_tracing()
            programs.attach_cgroup()
        except NotSupportedError as error:
            return {hook.program: error for hook in HOOK_BY_LAYER.values()}
        with _own_namespace() as namespace:
            programs.attach_interface(namespace, LOOPBACK)
        return dict(programs.refused)


@contextmanager
def _own_namespace() -> Iterator[Namespace]:
    """Be in a network namespace that nobody else has, with nothing but its loopback."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET):
            number = ctypes.get_errno()
            raise NotSupportedError("network namespace", os.strerror(number), "run as root")
        try:
            namespace = Namespace()
            try:
                yield namespace
            finally:
                namespace.close()
        finally:
            with suppress(OSError):
                _libc.setns(here, CLONE_NEWNET)
    finally:
        os.close(here)
