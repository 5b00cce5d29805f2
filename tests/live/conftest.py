"""One namespace and one running trace for all live tests that can share them."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.live.lab import Tracer, inside, namespace


@pytest.fixture(scope="session")
def netns() -> Iterator[str]:
    """The network namespace of the shared trace."""
    with namespace("live") as name:
        yield name


@pytest.fixture(scope="session")
def shared_trace(netns: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """The shared trace."""
    with Tracer(netns, tmp_path_factory.mktemp("trace")) as tracer:
        yield tracer


@pytest.fixture
def trace(shared_trace: Tracer) -> Tracer:
    """The shared trace, with no filter in force."""
    shared_trace.reload("")
    shared_trace.told()
    return shared_trace


@pytest.fixture
def cleared(trace: Tracer, netns: str) -> Iterator[Tracer]:
    """The shared trace; what a test loads into nftables goes with it."""
    yield trace
    subprocess.run(inside(netns, "nft", "flush", "ruleset"), check=True)
