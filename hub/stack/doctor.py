"""`parcelhub doctor`: what this machine has and lacks, and what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec
import psutil  # type: ignore[import-untyped]

from hub import __version__
from hub.locks import port_is_free
from hub.maintenance.telemetry_files import set_aside
from hub.settings import GIB, Settings
from serving.errors import TritonError
from serving.triton.installation import Installation

Status = Literal["ok", "warn", "fail"]

MIN_PYTHON = (3, 11)
MIN_DISK_GIB, GOOD_DISK_GIB = 2, 10
MIN_MEMORY_GIB, GOOD_MEMORY_GIB = 3, 6


class Check(msgspec.Struct, frozen=True):
    """One line of the table."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Check]:
    """Run every check; none of them changes anything."""
    checks: list[Callable[[], Iterator[Check]]] = [
        _python,
        _packages,
        _triton,
        lambda: _ports(settings),
        lambda: _data_folder(settings),
        lambda: _telemetry(settings),
        lambda: _base(settings),
        _machine,
        _gpu,
    ]
    return [check for run in checks for check in run()]


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MIN_PYTHON))
    enough = sys.version_info[:2] >= MIN_PYTHON
    yield Check("python", "ok" if enough else "fail", version, "" if enough else f"install Python {wanted} or newer")
    library = libpython()
    if library is None:
        yield Check(
            "libpython",
            "fail",
            "this Python has no shared library",
            "Triton's Python backend loads it: use a distribution's Python, or build with --enable-shared",
        )
    else:
        yield Check("libpython", "ok", library.name)


def libpython() -> Path | None:
    """The interpreter's shared library; None when it is linked statically."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    if ".so" not in name:
        return None
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        sysconfig.get_config_var("LIBPL"),
        f"{sys.base_prefix}/lib",
    ]
    return next((Path(folder, name) for folder in folders if folder and Path(folder, name).is_file()), None)


def _packages() -> Iterator[Check]:
    missing = []
    try:
        requirements = metadata.requires("parcelhub") or []
    except metadata.PackageNotFoundError:
        yield Check("packages", "warn", "parcelhub runs from a checkout", "pip install -e . (checks what it needs)")
        return
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        name = requirement.split(";")[0]
        for mark in "<>=!~[ ":
            name = name.split(mark)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Check("packages", "fail", "missing: " + ", ".join(missing), "pip install " + " ".join(missing))
    else:
        yield Check("packages", "ok", f"parcelhub {__version__} with all it needs")


def _triton() -> Iterator[Check]:
    try:
        installation = Installation.find()
        with tempfile.TemporaryDirectory() as folder:
            backends = installation.prepare_backends(Path(folder))
            installation.check_libraries(backends, installation.environment())
    except TritonError as error:
        yield Check("triton", "fail", str(error), "make setup, or pip install --no-deps nvidia-pytriton")
        return
    place = "the nvidia-pytriton wheel" if installation.wheel else str(installation.binary)
    yield Check("triton", "ok", f"{place}, with a stub for this Python")


def _ports(settings: Settings) -> Iterator[Check]:
    taken = [f"{port} ({service})" for service, port in settings.ports.items() if not port_is_free(settings.host, port)]
    if taken:
        advice = "stop what listens there (`parcelhub up`?), or set PARCELHUB_PORT, PARCELHUB_TRITON_*_PORT"
        yield Check("ports", "warn", "in use: " + ", ".join(taken), advice)
    else:
        yield Check("ports", "ok", "free: " + ", ".join(map(str, settings.ports.values())))


def _data_folder(settings: Settings) -> Iterator[Check]:
    data = settings.data
    nearest = next(folder for folder in (data, *data.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Check("data folder", "fail", f"{data} is not writable", "name another one with --data or PARCELHUB_DATA")
        return
    yield Check("data folder", "ok", str(data) if data.exists() else f"{data} (will be made)")
    free = shutil.disk_usage(nearest).free / GIB
    status: Status = "ok" if free >= GOOD_DISK_GIB else "warn" if free >= MIN_DISK_GIB else "fail"
    advice = "" if status == "ok" else f"keep {GOOD_DISK_GIB} GiB free for blobs and job workspaces"
    yield Check("disk", status, f"{free:.1f} GiB free", advice)


def _telemetry(settings: Settings) -> Iterator[Check]:
    lost = set_aside(settings.telemetry_folder)
    if lost:
        found = f"{len(lost)} damaged files set aside: {', '.join(lost[:3])}{' …' if len(lost) > 3 else ''}"
        yield Check("telemetry", "warn", found, "mend and put them back, or delete telemetry/damaged")


def _base(settings: Settings) -> Iterator[Check]:
    weights = settings.base_source / "model.safetensors"
    if weights.is_file():
        yield Check("base model", "ok", f"{weights.stat().st_size / 1e6:.0f} MB shipped")
    else:
        advice = "set PARCELHUB_BASE_SOURCE to a base model's folder"
        yield Check("base model", "fail", f"no model.safetensors in {settings.base_source}", advice)


def _machine() -> Iterator[Check]:
    memory = psutil.virtual_memory()
    total, free = memory.total / GIB, memory.available / GIB
    status: Status = "ok" if free >= GOOD_MEMORY_GIB else "warn" if free >= MIN_MEMORY_GIB else "fail"
    advice = "" if status == "ok" else f"a fine-tune beside Triton wants {GOOD_MEMORY_GIB} GiB free"
    yield Check("memory", status, f"{free:.1f} of {total:.1f} GiB free", advice)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    few = cores < 2
    yield Check("cores", "warn" if few else "ok", str(cores), "one core serves and trains by turns" if few else "")


def _gpu() -> Iterator[Check]:
    names = _nvidia_smi()
    if not names:
        yield Check("gpu", "ok", "none; models run on the CPU")
        return
    import torch  # only where a GPU is: the import takes seconds

    usable = torch.cuda.is_available()
    advice = "" if usable else "torch does not see it: install a CUDA build of torch that fits the driver"
    yield Check("gpu", "ok" if usable else "warn", ", ".join(names), advice)


def _nvidia_smi() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
