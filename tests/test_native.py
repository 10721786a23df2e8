"""What stands twice, in Python and in C, says the same in both."""

import ctypes
import importlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sipagent
from sipagent import native


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions of native.h, which only compiled modules can call otherwise."""
    folder = tmp_path_factory.mktemp("native")
    header = Path(sipagent.__file__).with_name("native.h").read_text().replace("static int g711_rms", "int g711_rms")
    (folder / "native.c").write_text(header)
    library = folder / "native.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, folder / "native.c", "-lm"], check=True)
    return ctypes.CDLL(str(library))


def test_what_has_types_beside_it_is_compiled_or_is_not_to_be() -> None:
    """A build goes on without what it could not compile, so that a fault in a .pxd would be seen nowhere else."""
    typed = [path for path in Path(sipagent.__file__).parent.rglob("*.pxd") if path.stem != "native"]
    wanted = set() if os.environ.get("SIPAGENT_PURE_PYTHON") else {path.stem for path in typed}
    names = (path.relative_to(Path(sipagent.__file__).parents[1]).with_suffix("") for path in typed)
    modules = [importlib.import_module(".".join(name.parts)) for name in names]
    assert {m.__name__.rpartition(".")[2] for m in modules if str(m.__file__).endswith(".so")} == wanted


@pytest.mark.parametrize("mu_law", [False, True])
def test_every_code_has_the_level_that_audioop_gives_it(c: ctypes.CDLL, mu_law: bool) -> None:
    for code in range(256):
        frame = bytes([code]) * 160
        assert c.g711_rms(frame, len(frame), mu_law) == native.rms(frame, mu_law)


@given(g711=st.binary(max_size=400), mu_law=st.booleans())
def test_a_level_in_c_is_that_in_python(c: ctypes.CDLL, g711: bytes, mu_law: bool) -> None:
    assert c.g711_rms(g711, len(g711), mu_law) == native.rms(g711, mu_law)
