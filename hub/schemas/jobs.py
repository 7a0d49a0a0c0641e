"""What a job is asked to do: one struct per kind of job, told apart by its member `kind`.

The structs register themselves here, so that both ends of the API read the same union: `read_spec` for the queue's
rows, `decoding` for answers of the hub. A kind that this process does not know is kept as it came (`UnknownSpec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Struct

_S = TypeVar("_S", bound="type[JobSpec]")


class JobSpec:
    """A request with every revision pinned to a commit: running it again is the same work.

    A kind's own struct inherits from this class and has `tag_field="kind"` and its name as `tag`. What it has no field
    for is empty.
    """

    __slots__ = ()
    light: ClassVar[bool] = False
    """Whether it runs beside a job that wants the whole machine, and its time counts for no quota."""

    @property
    def kind(self) -> str:
        """The name of the kind, as in `kind` of its JSON."""
        return str(type(self).__struct_config__.tag)  # type: ignore[attr-defined]  # of every struct

    @property
    def max_seconds(self) -> float:
        """The time that its work may take."""
        return 3600.0

    @property
    def cell(self) -> str:
        """The cell that it works for; the process may write to its repository."""
        return ""

    @property
    def dataset(self) -> str:
        """`team/name` of the dataset that it reads."""
        return ""

    @property
    def dataset_commit(self) -> str:
        """The commit of the dataset that the job reads; "" where it reads none."""
        return ""

    @property
    def base(self) -> str:
        """`base/universal@v1`, the base that it begins with."""
        return ""

    @property
    def base_commit(self) -> str:
        """The commit of the base that the job starts from; "" where it needs none."""
        return ""

    def datasets(self) -> list[str]:
        """Every dataset that something of it is read from, through others too: what it makes is as private as they."""
        return [self.dataset] if self.dataset else []

    def reads(self) -> list[str]:
        """Repositories that its process may read, as `dataset/acme/dock-7`."""
        found = [f"dataset/{self.dataset}"] if self.dataset else []
        return found + ([f"model/{self.base.partition('@')[0]}"] if self.base else [])

    def writes(self) -> list[str]:
        """Repositories that its process may read and write beside its cell's, as `dataset/acme/dock-7`."""
        return []

    def blobs(self) -> list[str]:
        """Contents (sha256) that its process may have though no repository of the above holds them."""
        return []

    def keeps(self) -> list[str]:
        """Repositories that nobody may delete or rename while it waits or runs."""
        return [*self.reads(), *self.writes(), *([f"model/cells/{self.cell}"] if self.cell else [])]


class UnknownSpec(Struct, JobSpec, frozen=True):
    """A job of a kind that this process does not know: it is shown and can be cancelled; it is never claimed here.
    `asked` is what the other one wrote."""

    kind: str
    asked: dict[str, Any]


_specs: dict[str, type[JobSpec]] = {}


def register_spec(wanted: _S) -> _S:
    """Make a kind's struct known (a decorator). Raises ValueError if another kind has its name."""
    name = str(wanted.__struct_config__.tag)  # type: ignore[attr-defined]  # of every struct
    known = _specs.setdefault(name, wanted)
    if (known.__module__, known.__qualname__) != (wanted.__module__, wanted.__qualname__):
        raise ValueError(f"there are two kinds of jobs named {name!r}")
    _specs[name] = wanted
    return wanted


def job_specs() -> Mapping[str, type[JobSpec]]:
    """The structs by the names of their kinds, as far as their modules were imported."""
    return _specs


def read_spec(document: Mapping[str, Any]) -> JobSpec:
    """The spec that a JSON object says. Without `kind` it is a fine-tune: so hubs wrote them before there were others.

    Raises msgspec.ValidationError.
    """
    name = document.get("kind") or ("refresh" if document.get("refresh") else "finetune")
    inner = document.get("asked")
    asked = inner if set(document) == {"kind", "asked"} and isinstance(inner, dict) else dict(document)
    found = _specs.get(str(name))
    return UnknownSpec(str(name), asked) if found is None else msgspec.convert(asked, found)


def decoding(wanted: type, value: Any) -> Any:  # noqa: ANN401  # msgspec's own signature
    """A `dec_hook` of msgspec that reads specs inside of other structs. It raises ValueError for a spec that is no
    object, NotImplementedError for other types."""
    if wanted is JobSpec:
        if not isinstance(value, dict):
            raise ValueError("a job's spec is an object")
        return read_spec(value)
    raise NotImplementedError(f"there is no way to read a {wanted}")


def is_light(kind: str) -> bool:
    """Whether jobs of this kind run beside one that wants the whole machine; False for a kind nobody knows."""
    known = job_specs().get(kind)
    return known is not None and known.light


def charged_minutes(spec: JobSpec) -> float:
    """What a job may use of its team's minutes."""
    return 0.0 if spec.light else spec.max_seconds / 60
