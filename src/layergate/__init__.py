"""One filter model for the whole life of a connection, on Linux.

Layers from bind to closure, filters in sublayers, one arbitration, and an owner and a reason for every decision. Live
kernels (eBPF), captures and simulated hosts make *indications*; the engine answers each with a *verdict*; every command
prints one or the other. A new reader starts in `model`, `engine` and `path`. Imports go one way, towards `model`
(import-linter contracts in pyproject.toml).
"""

__version__ = "0.1.0"
