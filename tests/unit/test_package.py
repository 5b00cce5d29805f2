import importlib.metadata

import layergate


def test_the_version_is_the_same_for_python_and_for_the_installer() -> None:
    assert importlib.metadata.version("layergate") == layergate.__version__


def test_nothing_but_python_is_needed_at_run_time() -> None:
    needed = importlib.metadata.requires("layergate") or []
    assert [one for one in needed if "extra ==" not in one] == []
    assert {one.partition("extra == ")[2].strip("'\"") for one in needed} <= {"columns", "view"}
