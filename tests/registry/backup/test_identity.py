"""Catalog and blobs carry one id: what does not fit is refused in words, and nothing is collected."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from registry.backup.backup import make_backup, restore
from registry.catalog import identity
from registry.errors import BackupError, StoreMismatchError
from registry.registry import Registry


def made(root, text=b"hello"):
    with Registry.open(root) as opened:
        opened.blobs.put_bytes(text)
    return root


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_lost_catalog_is_not_made_anew_over_blobs(tmp_path, how):
    root = made(tmp_path / "hub")
    catalog = root / "catalog.duckdb"
    catalog.unlink() if how == "gone" else catalog.write_bytes(b"")
    before = sorted(root.rglob("*"))
    with pytest.raises(StoreMismatchError, match=r"catalog.*restore"):
        Registry.open(root)
    assert sorted(root.rglob("*")) == before


def test_the_refusal_names_the_backup_that_fits_and_it_brings_the_hub_back(tmp_path):
    root = made(tmp_path / "hub")
    with Registry.open(root) as opened:
        done = make_backup(opened, root, tmp_path / "vault")
        mine = identity.of_catalog(opened.catalog)
    (root / "catalog.duckdb").unlink()
    with pytest.raises(StoreMismatchError, match=done.name):
        Registry.open(root)
    restore(tmp_path / "vault", tmp_path / "new", name=done.name)
    with Registry.open(tmp_path / "new") as again:
        assert identity.of_catalog(again.catalog) == mine == identity.of_store(again.blobs)


def test_keys_without_a_catalog_are_a_hub_that_lost_it(tmp_path):
    root = made(tmp_path / "hub")
    (root / "catalog.duckdb").unlink()
    shutil.rmtree(root / "blobs")
    with pytest.raises(StoreMismatchError, match="signing keys"):
        Registry.open(root)


def test_blobs_of_another_hub_are_refused_at_the_start_and_by_a_collection(tmp_path):
    one, other = made(tmp_path / "one"), made(tmp_path / "other", b"theirs")
    with pytest.raises(StoreMismatchError, match="PARCELHUB_BLOBS"):
        Registry.open(one, blobs_url=(other / "blobs").as_uri())
    with Registry.open(one) as opened:
        shutil.copy(other / "blobs" / "store.json", one / "blobs" / "store.json")
        blobs = [blob.sha256 for blob in opened.blobs.all()]
        with pytest.raises(StoreMismatchError, match="nothing is removed"):
            opened.collect(timedelta(0), timedelta(0))
        assert [blob.sha256 for blob in opened.blobs.all()] == blobs


def test_a_restore_refuses_blobs_of_another_store(tmp_path):
    root, other = made(tmp_path / "hub"), made(tmp_path / "other")
    with Registry.open(root) as opened:
        make_backup(opened, root, tmp_path / "vault")
    with pytest.raises(BackupError, match="store"):
        restore(tmp_path / "vault", tmp_path / "new", blobs_url=(other / "blobs").as_uri())


def test_an_old_folder_gets_its_id_when_it_is_opened(tmp_path):
    root = made(tmp_path / "hub")
    with Registry.open(root) as opened, opened.catalog.write() as tx:
        tx.execute("DELETE FROM store_identity")
    (root / "blobs" / "store.json").unlink()
    with Registry.open(root) as opened:
        assert identity.of_catalog(opened.catalog) == identity.of_store(opened.blobs) is not None
