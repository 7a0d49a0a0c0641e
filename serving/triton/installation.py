"""Where tritonserver is on this machine, and the backend folder and environment it needs to start.

Three places, in this order: `PARCELHUB_TRITONSERVER` (a path), the files of the `nvidia-pytriton` wheel in this Python
environment, `tritonserver` on PATH. Of the wheel only the binaries are used; its Python package is never imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from serving.errors import LibraryMissing, TritonNotFound

BINARY = "PARCELHUB_TRITONSERVER"
_STUB = "triton_python_backend_stub"
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Installation:
    """A tritonserver on this machine.

    `wheel` is the wheel's server folder when the binary comes from there: it has stubs for several Python versions and
    no usable backend folder. A system installation (such as the official container) brings its own, so it is None.
    """

    binary: Path
    wheel: Path | None

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises TritonNotFound, saying what to install."""
        named = environment.get(BINARY)
        if named:
            binary = Path(named)
            if not os.access(binary, os.X_OK):
                raise TritonNotFound(f"{BINARY} names '{named}', which is not an executable file")
            return cls(binary, None)
        # find_spec of a top-level name looks for the folder and runs none of its code.
        spec = importlib.util.find_spec("pytriton")
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / "tritonserver"
            if (folder / "bin" / "tritonserver").is_file():
                return cls(folder / "bin" / "tritonserver", folder)
        on_path = shutil.which("tritonserver", path=environment.get("PATH"))
        if on_path:
            return cls(Path(on_path), None)
        raise TritonNotFound(
            "no tritonserver on this machine: run `pip install --no-deps nvidia-pytriton` in this Python "
            f"environment, or point {BINARY} at a tritonserver binary"
        )

    def prepare_backends(self, folder: Path) -> Path | None:
        """Make `folder` a backend directory with the stub of this very Python; None where the system has its own.
        Raises TritonNotFound where the wheel has no stub for it."""
        if self.wheel is None:
            return None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.wheel / "python_backend_stubs" / version / _STUB
        if not stub.is_file():
            there = sorted(path.name for path in (self.wheel / "python_backend_stubs").iterdir())
            raise TritonNotFound(
                f"the Triton wheel has no Python {version} stub (it has {', '.join(there)}); "
                "run parcelhub with one of those Python versions"
            )
        target = folder / "python"
        target.mkdir(parents=True, exist_ok=True)
        for source in [*(self.wheel / "backends" / "python").iterdir(), stub]:
            link = target / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)
        return folder

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`base` with the library paths, and with a Python search path on which the stub finds us."""
        environment = dict(base)
        if self.wheel is not None:
            libraries = [str(self.wheel.parent.parent / "nvidia_pytriton.libs")]
            libpython = sysconfig.get_config_var("LIBDIR")
            libraries += [libpython] if libpython else []
            environment["LD_LIBRARY_PATH"] = _joined(libraries, environment.get("LD_LIBRARY_PATH"))
            # The stub embeds Python, and Python finds its virtual environment by the `python3` first on PATH.
            environment["PATH"] = _joined([str(Path(sys.executable).parent)], environment.get("PATH"))
        environment["PYTHONPATH"] = _joined([str(_PACKAGE_ROOT)], environment.get("PYTHONPATH"))
        return environment

    def check_libraries(self, backends: Path | None, environment: Mapping[str, str]) -> None:
        """Raises LibraryMissing when the loader would not find a library of the server or of the stub."""
        if shutil.which("ldd") is None:
            return
        for binary in [self.binary] if backends is None else [self.binary, backends / "python" / _STUB]:
            listing = subprocess.run(
                ["ldd", str(binary)], env=dict(environment), capture_output=True, text=True, check=False
            )
            lines = listing.stdout.splitlines()
            missing = tuple(line.split()[0] for line in lines if "not found" in line and "=>" in line)
            if missing:
                raise LibraryMissing(binary, missing, _hint(missing))


def _hint(missing: tuple[str, ...]) -> str:
    if any(name.startswith("libpython") for name in missing):
        return (
            "Triton's stub needs Python as a shared library: use a Python that was built with --enable-shared "
            "(uv's and most distributions' are), or put the folder that holds it on LD_LIBRARY_PATH."
        )
    return "Put the folder that holds it on LD_LIBRARY_PATH."


def _joined(first: list[str], rest: str | None) -> str:
    return os.pathsep.join([*first, *([rest] if rest else [])])
