import importlib.metadata

import layergate


def test_the_version_is_the_same_for_python_and_for_the_installer() -> None:
    assert importlib.metadata.version("layergate") == layergate.__version__


def test_nothing_but_python_is_needed_at_run_time() -> None:
    assert importlib.metadata.requires("layergate") is None
