"""Defaults, then the environment, then flags; a bad value is named."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hub.errors import SettingsError
from hub.settings import Settings


def test_flags_beat_the_environment_which_beats_the_defaults(tmp_path: Path) -> None:
    env = {"PARCELHUB_PORT": "9001", "PARCELHUB_DATA": str(tmp_path / "a"), "PARCELHUB_LEASE_SECONDS": "2.5"}
    settings = Settings.load(env, data=tmp_path / "b", hub_url=None)
    assert (settings.port, settings.lease_seconds, settings.data) == (9001, 2.5, tmp_path / "b")
    assert Settings.load({}).port == 8400
    assert settings.url == "http://127.0.0.1:9001"
    assert settings.triton_grpc == "127.0.0.1:8411"


def test_a_data_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load({}).data == tmp_path / "parcelhub-data"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"PARCELHUB_PORT": "many"}, "PARCELHUB_PORT: 'many' is not a number"),
        ({"PARCELHUB_PORT": "70000"}, "70000 is not a port"),
        ({"PARCELHUB_PORT": "8411"}, "share one port"),
        ({"PARCELHUB_MAX_ATTEMPTS": "0"}, "must be positive"),
    ],
)
def test_a_bad_value_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.load(env)


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path, port=9100, token="secret", max_attempts=7)
    env = settings.environment()
    assert "secret" not in " ".join(env.values())
    again = Settings.load(env)
    assert (again.data, again.port, again.max_attempts, again.token) == (tmp_path, 9100, 7, "")


def test_the_token_comes_from_the_setting_or_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PARCELHUB_TOKEN"):
        Settings.load({}, data=tmp_path).client_token()
    (tmp_path / "admin.token").write_text("ph_abc\n")
    assert Settings.load({}, data=tmp_path).client_token() == "ph_abc"
    assert Settings.load({"PARCELHUB_TOKEN": "ph_x"}, data=tmp_path).client_token() == "ph_x"


def test_locks_keep_the_data_folder_private(tmp_path: Path) -> None:
    from hub.errors import DataFolderInUseError
    from hub.locks import data_folder_lock

    data = tmp_path / "data"
    with data_folder_lock(data, "up"), pytest.raises(DataFolderInUseError, match=str(data)):
        data_folder_lock(data, "up").__enter__()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with data_folder_lock(data, "up"):
        pass


def test_free_ports_are_all_that_changes(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path, max_attempts=7)
    other = settings.on_free_ports()
    assert len(set(other.ports.values())) == 4
    assert other.url == f"http://127.0.0.1:{other.port}"
    ports = ("port", "triton_http_port", "triton_grpc_port", "triton_metrics_port")
    assert replace(other, **{name: getattr(settings, name) for name in ports}) == settings
