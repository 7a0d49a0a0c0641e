"""The optional libraries of the physical tiers, imported when they are first needed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from finetune.errors import SceneToolError

GRAPHICS = (
    "install libegl1 and libgl1-mesa-dri (they draw on the CPU where there is no GPU), "
    "or libosmesa6 and set MUJOCO_GL=osmesa"
)
OLDEST_LLVM = 16  # drjit's kernels do not compile with 15: the process aborts
_LLVM_NAME = re.compile(r"libLLVM(?:-|\.so\.|\.)(\d+)")
_LLVM_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


@lru_cache(maxsize=1)
def mujoco() -> Any:
    """The `mujoco` module, set to draw without a display. Raises SceneToolError when it or OpenGL is missing."""
    if sys.platform == "linux":
        # The module reads this once, when it is imported. EGL draws on a GPU or, through Mesa, on the CPU.
        os.environ.setdefault("MUJOCO_GL", "egl")
        # Mesa's software renderer takes every core it sees; we spread scenes over processes instead.
        os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        module = importlib.import_module("mujoco")
    except Exception as error:  # what PyOpenGL raises without a library is of many kinds
        if has("mujoco"):
            raise SceneToolError(f"no OpenGL for off-screen pictures ({error}); {GRAPHICS}") from error
        return _load("mujoco", "physical")
    # Its own handler writes a log file into the working folder. `settle` looks at the warnings' counters itself.
    module.set_mju_user_warning(_ignore)
    return module


def _ignore(_message: str) -> None:
    pass


@lru_cache(maxsize=1)
def mitsuba() -> Any:
    """The `mitsuba` module with a variant chosen: `llvm_ad_rgb` where LLVM 16 or newer is found, else `scalar_rgb`.

    `PARCELHUB_MITSUBA` names another variant. Raises SceneToolError when the module is missing or the variant unknown.
    """
    library = find_llvm()
    if library is not None:
        os.environ.setdefault("DRJIT_LIBLLVM_PATH", str(library))
    module = _load("mitsuba", "pathtraced")
    usable = library is not None or "DRJIT_LIBLLVM_PATH" in os.environ
    variant = os.environ.get("PARCELHUB_MITSUBA") or ("llvm_ad_rgb" if usable else "scalar_rgb")
    if variant not in module.variants():
        raise SceneToolError(f"mitsuba has no variant {variant!r}; it has {', '.join(module.variants())}")
    module.set_variant(variant)
    return module


def has(module: str) -> bool:
    """Whether a module is installed; nothing is imported."""
    return importlib.util.find_spec(module) is not None


def find_llvm(folders: tuple[str, ...] = _LLVM_FOLDERS) -> Path | None:
    """The newest libLLVM of at least `OLDEST_LLVM` in the usual folders, None where there is none."""
    found: list[tuple[int, Path]] = []
    for folder in folders:
        for path in sorted(Path(folder).glob("libLLVM*.so*")):
            match = _LLVM_NAME.match(path.name)
            if match and int(match[1]) >= OLDEST_LLVM:
                found.append((int(match[1]), path))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _load(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SceneToolError(
            f"this needs the package {module!r} ({error}); install it with: pip install 'parcelhub[{extra}]'"
        ) from error
