"""What a hub process is configured with: defaults, then PARCELHUB_* variables, then flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path

from hub.errors import SettingsError

ENV_PREFIX = "PARCELHUB_"
GIB = 1024**3
MAX_GRACE_DAYS = 36_500
Value = Path | str | int | float


SHIPPED = Path(str(resources.files("finetune").joinpath("bases", "universal")))
"""The folder of the base model that the distribution carries."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field can be set by `PARCELHUB_<FIELD>`; `Settings.load` applies flags on top of that."""

    data: Path = Path("parcelhub-data")
    host: str = "127.0.0.1"
    port: int = 8400
    hub_url: str = ""
    """Address of the hub that a client asks; empty: the hub of this machine, at `host:port`. No hub looks at it."""
    public_url: str = ""
    """What a hub calls itself in the links that it gives; empty: as each request called it."""
    triton_host: str = "127.0.0.1"
    triton_http_port: int = 8410
    triton_grpc_port: int = 8411
    triton_metrics_port: int = 8412
    token: str = ""
    """A client's token; empty: `<data>/admin.token`."""
    base_source: Path = Path()
    """Folder of the base model to publish at the first start; `.`: the shipped one."""
    blobs: str = ""
    """URL of an object store for the blobs; empty: a folder in the data folder."""
    max_blob_bytes: int = 8 * GIB
    anonymous_read: int = 0
    """1: over the Hugging Face protocol, public repositories are readable without a token; 0: nothing is."""
    lease_seconds: float = 30.0
    """A running job whose worker was silent for this long is queued again."""
    max_attempts: int = 3
    quota_running: int = 4
    """Jobs of one team that run at the same time. The operator may give a team other quotas than these four."""
    quota_queued: int = 100
    quota_bytes: int = 500 * GIB
    """What the files of a team's repositories may weigh together, each content once."""
    quota_minutes_per_day: float = 1440.0
    requests_per_minute: int = 0
    """Requests of one caller over the Hugging Face protocol, each file's bytes one of them; 0: as many as they like."""
    telemetry_days: int = 365
    """Predictions and outcomes are kept for so long."""
    trials: int = 1
    """1: each promotion starts a trial of the variant, which rolls it back if its picks go wrong; 0: none starts."""
    refresh: int = 1
    """1: the cells' refresh policies may start trainings; 0: none starts but by hand."""
    promote: int = 1
    """1: the cells' policies may take what is offered from stage to stage, by evidence; 0: people do."""
    grow: int = 1
    """1: offered datasets are checked and tested, and the growth policy may train a base; 0: only what is under way."""
    jobs_give_way: int = 1
    """1: a job's process runs where nothing else wants the core; 0: it takes its share, on a machine without robots."""
    look_seconds: float = 15.0
    """How soon a cell's new labels are seen by its refresh policy, and offered datasets by the growth policy."""
    check_robots: int = 1
    """1: robots need a token that is good for their cell (`parcelhub robot add`); 0: none is asked for."""
    robot_token: str = ""
    """The token of a robot on this machine; empty: `<data>/robot.token`, which the hub makes at its first start."""
    site_token: str = ""
    """The token of this site, for the uplink to the hub; empty: `<data>/site.token`, which a hub on this machine
    makes."""
    capture_low_score: float = 0.5
    """Frames whose most certain instance is below this are kept for labelling."""
    capture_share: float = 0.01
    """Of the others, the share that is kept."""
    capture_selectors: str = "low_score,sample"
    """The rules that choose frames to keep, in order, with commas between them."""
    capture_max_bytes: int = 2 * GIB
    capture_max_count: int = 20_000
    observe: int = 1
    """1: the cells' cameras are watched for faults; 0: they are not."""
    tls_cert: Path = Path()
    """PEM certificate of the robots' gRPC endpoint; `.`: no TLS."""
    tls_key: Path = Path()
    tls_client_ca: Path = Path()
    """PEM certificate that robots' own certificates must be signed with (mutual TLS); `.`: they need none."""
    shared_memory: int = 0
    """1: robots on this machine may hand frames over in shared memory."""
    blob_grace_days: float = 7.0
    """Blobs that nothing names are kept for so long: an upload has a day to be committed, clients resume for longer."""
    workspace_days: float = 7.0
    """Workspaces of jobs that ended are kept for so long: failed and cancelled ones go on from there when retried."""
    reserve_bytes: int = 64 * 1024**2
    """Room on the disk that is kept for the day when it is full (at most a 32nd of the disk); 0: none."""
    webhook_allow: str = ""
    """Private networks that webhooks may send to all the same, as `10.20.0.0/16,192.168.7.9`; empty: none."""
    webhook_seconds: float = 10.0
    """What one try of a delivery may take."""
    webhook_pause: float = 10.0
    """Seconds before the second try of a delivery; doubled before each further one."""
    extensions: str = ""
    """Python modules to load, with commas between them: what they register is there (docs/extending.md)."""
    xet_grace_days: float = 28.0
    """Chunks that no repository needs are kept for so long: stock clients build on what they sent for three weeks."""

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, **flags: Value | None) -> Settings:
        """Defaults, overridden by the environment, overridden by those flags that are not None."""
        env = os.environ if env is None else env
        values: dict[str, Value] = {}
        defaults = cls()
        for field in fields(cls):
            name = ENV_PREFIX + field.name.upper()
            if raw := env.get(name, ""):
                values[field.name] = _parse(name, raw, getattr(defaults, field.name))
        values.update({name: value for name, value in flags.items() if value is not None})
        settings = cls(**values)  # type: ignore[arg-type]  # each was parsed to its field's type
        settings = replace(settings, data=settings.data.expanduser().absolute())
        if settings.base_source == Path():
            settings = replace(settings, base_source=SHIPPED)
        settings._check()
        return settings

    def _check(self) -> None:
        for name in ("port", "triton_http_port", "triton_grpc_port", "triton_metrics_port"):
            port = getattr(self, name)
            if not 1 <= port <= 65535:
                raise SettingsError(f"{ENV_PREFIX}{name.upper()}: {port} is not a port (1 to 65535)")
        if len(set(self.ports.values())) != len(self.ports):
            raise SettingsError(f"two services share one port: {self.ports}")
        if self.lease_seconds <= 0 or self.max_attempts < 1 or self.max_blob_bytes < 1:
            raise SettingsError("lease_seconds, max_attempts and max_blob_bytes must be positive")
        if min(self.quota_running, self.quota_queued, self.quota_bytes, self.quota_minutes_per_day) < 0 or (
            self.requests_per_minute < 0
        ):
            raise SettingsError("quotas must not be negative")
        if not (0 <= self.capture_low_score <= 1 and 0 <= self.capture_share <= 1):
            raise SettingsError("capture_low_score and capture_share must be between 0 and 1")
        if min(self.webhook_seconds, self.webhook_pause, self.look_seconds) <= 0:
            raise SettingsError("webhook_seconds, webhook_pause and look_seconds must be positive")
        if self.webhook_allow:
            from hub.outbound import Guard  # here: it brings an HTTP library along, and few hubs have such a setting

            Guard.of(self.webhook_allow)
        if min(self.capture_max_bytes, self.capture_max_count, self.telemetry_days) < 0:
            raise SettingsError("the bounds of telemetry and captures must not be negative")
        if (self.tls_cert == Path()) != (self.tls_key == Path()):
            raise SettingsError("TLS needs both a certificate and its key")
        if self.workspace_days < 0 or self.reserve_bytes < 0:
            raise SettingsError("workspace_days and reserve_bytes must not be negative")
        if self.public_url and not self.public_url.startswith(("http://", "https://")):
            raise SettingsError(f"{ENV_PREFIX}PUBLIC_URL: {self.public_url!r} is no http:// or https:// address")
        if not (0 <= self.xet_grace_days <= MAX_GRACE_DAYS and 0 <= self.blob_grace_days <= MAX_GRACE_DAYS):
            raise SettingsError(f"xet_grace_days and blob_grace_days must be between 0 and {MAX_GRACE_DAYS}")

    def on_free_ports(self) -> Settings:
        """These, with ports that nobody uses at the moment: a stack beside others."""
        from hub.locks import free_ports

        hub, http, grpc, metrics = free_ports(self.host, 4)
        return replace(self, port=hub, triton_http_port=http, triton_grpc_port=grpc, triton_metrics_port=metrics)

    @property
    def url(self) -> str:
        """Where clients of these settings find the hub."""
        return self.hub_url.rstrip("/") or self.local_url

    @property
    def local_url(self) -> str:
        """Where the hub of these settings listens, as this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def told_url(self) -> str:
        """The hub's address as a hub tells it to people."""
        return self.public_url.rstrip("/") or self.local_url

    @property
    def triton_grpc(self) -> str:
        """`host:port` where Triton answers gRPC."""
        return f"{self.triton_host}:{self.triton_grpc_port}"

    @property
    def ports(self) -> dict[str, int]:
        """Every port that `parcelhub up` listens on, by service."""
        return {
            "hub": self.port,
            "triton http": self.triton_http_port,
            "triton grpc": self.triton_grpc_port,
            "triton metrics": self.triton_metrics_port,
        }

    @property
    def admin_token_file(self) -> Path:
        """Where the operator's token is kept, for commands on this machine."""
        return self.data / "admin.token"

    @property
    def serving_folder(self) -> Path:
        """What robots are served from: routing and the files of bases and variants."""
        return self.data / "serving"

    @property
    def telemetry_folder(self) -> Path:
        """Where predictions, outcomes and captures lie."""
        return self.data / "telemetry"

    @property
    def jobs_folder(self) -> Path:
        """Where jobs work and keep their checkpoints, a folder each."""
        return self.data / "jobs"

    def client_token(self) -> str:
        """The token for calls to the hub: the given one, else the admin token of the data folder. Raises SettingsError
        where there is none."""
        if self.token:
            return self.token
        try:
            return self.admin_token_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise SettingsError(
                f"no token: set {ENV_PREFIX}TOKEN, or name the hub's data folder with --data"
                f" (looked for {self.admin_token_file}; is the hub up?)"
            ) from None
        except OSError as error:
            raise SettingsError(f"cannot read {self.admin_token_file}: {error.strerror}") from error

    @property
    def robot_token_file(self) -> Path:
        """Where the token of robots on this machine is kept."""
        return self.data / "robot.token"

    @property
    def site_token_file(self) -> Path:
        """Where the token of the site on this machine is kept."""
        return self.data / "site.token"

    def local_site_token(self) -> str | None:
        """What `parcelhub serve` shows the hub; None where this machine has none."""
        return self.site_token or _token_in(self.site_token_file)

    def local_robot_token(self) -> str | None:
        """What `parcelhub segment` and the demo show Triton; None where the hub is on another machine."""
        return self.robot_token or _token_in(self.robot_token_file)

    def environment(self) -> dict[str, str]:
        """The variables that give a child process these same settings, and no others of its parent's.

        The token is left empty: a child takes that of the data folder, or gets one of its own.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"token": "", "robot_token": "", "site_token": ""}
        return {ENV_PREFIX + name.upper(): str(value) for name, value in values.items()}


def _token_in(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _parse(name: str, raw: str, like: Value) -> Value:
    """`raw` as the type of the field's default."""
    try:
        return type(like)(raw)
    except ValueError:
        raise SettingsError(f"{name}: {raw!r} is not a number") from None
