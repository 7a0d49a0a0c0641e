"""The hub floor: the service people meet. It composes the three floors below and is imported by none of them.

    settings, errors, locks          what is configured; what can go wrong, and what people see of it
    app, services                    the service (Litestar), and the objects that one process works with, wired once
    api/ hf/ web/                    the three entrances: REST, the Hub protocol, pages; http/ is what they share
    accounts/ datasets/ models/      the hub's own rows, and what it does with the floors below
    jobs/ kinds/ rollout/ maintenance/
    protocol/ schemas/ migrations/   what the Hub protocol works with; the structs of REST; the hub's tables
    client/ cli/ stack/              the typed REST client; the `parcelhub` command; `parcelhub up`

The process of the REST service never imports torch: models run in Triton and in job processes.
"""

from __future__ import annotations

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import metadata  # a tenth of a second that most commands need not wait

    try:
        found = metadata.version("parcelhub")
    except metadata.PackageNotFoundError:  # a checkout that was not installed
        found = "0+checkout"
    globals()[name] = found
    return found
