"""What `netsh wfp` writes on Windows: states, filters, net events, recordings; read, and decided on by the engine.

`load_file` gives a `Dump`: a `Policy` whose filters are heard in the recorded order, with connections and net events
beside it, and with everything that was not understood named. `weights` says which Windows has weighed it; `judging`
decides on what the dump recorded. Pure, but for the one file that `load_file` reads.
Source: `netsh wfp` of five builds of Windows 10 and 11; fwpmtypes.h.
"""

from layergate.windows.dump import Dump, Kind, load_file, read
from layergate.windows.events import NetEvent, Terminating
from layergate.windows.judging import Agreement, Comparison, Judge, Judgement, Open, compare
from layergate.windows.objects import Connection, Session
from layergate.windows.weights import Fit, Misfit, fit

__all__ = [
    "Agreement",
    "Comparison",
    "Connection",
    "Dump",
    "Fit",
    "Judge",
    "Judgement",
    "Kind",
    "Misfit",
    "NetEvent",
    "Open",
    "Session",
    "Terminating",
    "compare",
    "fit",
    "load_file",
    "read",
]
