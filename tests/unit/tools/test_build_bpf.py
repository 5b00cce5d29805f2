"""tools/build_bpf.py on small trees: what is compiled, what is left alone, and what a machine without tools says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import build_bpf

PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "answer.h"
SEC("cgroup/sock_create") int create(struct bpf_sock *sock) { return sock->family == 2 ? ANSWER : 1; }
char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    sources = tmp_path / build_bpf.SOURCES
    sources.mkdir(parents=True)
    (sources / "answer.h").write_text("#define ANSWER 1\n")
    (sources / "one.bpf.c").write_text(PROGRAM)
    (sources / "two.bpf.c").write_text(PROGRAM)
    return tmp_path


def objects(tree: Path) -> dict[str, int]:
    """Every file beside the objects, with the inode that tells a new one from an old one."""
    return {path.name: path.stat().st_ino for path in (tree / build_bpf.OBJECTS).iterdir()}


def touch_later(path: Path) -> None:
    later_ns = path.stat().st_mtime_ns + 10**12
    os.utime(path, ns=(later_ns, later_ns))


def test_a_tree_without_programs_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLANG", "no-such-clang")
    assert build_bpf.build(tmp_path) == []


def test_every_program_becomes_an_object_and_nothing_else_is_left(tree: Path) -> None:
    assert build_bpf.build(tree) == []
    assert sorted(objects(tree)) == ["one.bpf.o", "two.bpf.o"]
    elf = (tree / build_bpf.OBJECTS / "one.bpf.o").read_bytes()
    assert elf[:4] == b"\x7fELF"
    assert b".BTF" in elf
    assert os.fsencode(tree) not in elf, "an object must not tell where it was built"


def test_a_second_run_compiles_nothing(tree: Path) -> None:
    build_bpf.build(tree)
    before = objects(tree)
    build_bpf.build(tree)
    assert objects(tree) == before


def test_a_newer_source_is_compiled_alone(tree: Path) -> None:
    build_bpf.build(tree)
    before = objects(tree)
    touch_later(tree / build_bpf.SOURCES / "one.bpf.c")
    build_bpf.build(tree)
    after = objects(tree)
    assert after["one.bpf.o"] != before["one.bpf.o"]
    assert after["two.bpf.o"] == before["two.bpf.o"]


def test_a_newer_header_compiles_all(tree: Path) -> None:
    build_bpf.build(tree)
    before = objects(tree)
    touch_later(tree / build_bpf.SOURCES / "answer.h")
    build_bpf.build(tree)
    assert not set(objects(tree).values()) & set(before.values())


def test_the_object_of_a_deleted_program_goes(tree: Path) -> None:
    build_bpf.build(tree)
    (tree / build_bpf.SOURCES / "two.bpf.c").unlink()
    build_bpf.build(tree)
    assert list(objects(tree)) == ["one.bpf.o"]


def test_a_refused_program_is_named_and_the_others_are_built(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tree / build_bpf.SOURCES / "one.bpf.c").write_text("int f(void) { return unknown; }\n")
    assert build_bpf.build(tree) == ["one.bpf.c"]
    assert "undeclared identifier" in capfd.readouterr().err
    assert list(objects(tree)) == ["two.bpf.o"]


def test_a_missing_clang_is_one_line_with_the_remedy(tree: Path) -> None:
    (tree / "tools").mkdir()
    script = shutil.copy(build_bpf.__file__, tree / "tools")
    environment = {**os.environ, "CLANG": "no-such-clang"}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert run.stderr == "build_bpf: clang is missing: apt-get install clang libbpf-dev\n"


def test_missing_headers_are_one_line_with_the_remedy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_bpf, "PROBE", "#include <no/such/bpf_helpers.h>\n")
    with pytest.raises(build_bpf.CannotBuildError) as caught:
        build_bpf.build(tree)
    assert str(caught.value) == "<bpf/bpf_helpers.h> is missing: apt-get install clang libbpf-dev"


def test_another_machine_is_refused_by_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(build_bpf.CannotBuildError, match="no BPF build for riscv64"):
        build_bpf.build(tree)
