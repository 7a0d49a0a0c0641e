"""The hub floor: the service people meet. It composes the three floors below and is imported by none of them.

    settings, errors        what is configured; what can go wrong, and what people see of it
    app, api/               the REST service (Litestar)
    services                the objects one hub process works with, wired once
    tables, tokens, cells, jobs, models, bases, serving_folder
                            the hub's own rows and what it does with the floors below
    worker, job_run         claim a job; be a job
    supervisor, processes   `parcelhub up`
    client                  the typed REST client of commands, workers and jobs
    cli/                    the `parcelhub` command

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
