"""Uploads of datasets: what is missing travels, interrupted ones go on, half of one is never seen."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.client.transfer import pull_folder, push_folder
from hub.errors import HubAnswerError
from hub.schemas.resources import ManifestFile
from hub.services import Services
from hub.settings import Settings
from hub.stack.processes import stop
from tests.hub.material import start_hub, write_base_files


def picture(seed: int = 0, side: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def folder_of(root: Path, images: int = 3) -> Path:
    (root / "images").mkdir(parents=True)
    entries, annotations = [], []
    for k in range(images):
        (root / "images" / f"{k}.png").write_bytes(picture(k))
        entries.append({"id": k, "file_name": f"images/{k}.png", "width": 24, "height": 24, "split": "train"})
        annotations += [{"id": 2 * k + n, "image_id": k, "category_id": 1} for n in range(k % 3)]
    document = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (root / "annotations.json").write_text(json.dumps(document))
    (root / "README.md").write_text("# Frames\n")
    return root


def manifest(files: dict[str, bytes]) -> list[ManifestFile]:
    return [ManifestFile(path=p, size=len(d), sha256=hashlib.sha256(d).hexdigest()) for p, d in files.items()]


def test_a_folder_travels_once_and_its_images_are_listed(client: HubClient, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", 5)
    seen: list[tuple[int, int]] = []
    first = push_folder(client, "acme/dock", folder, "one", private=True, progress=lambda *step: seen.append(step))
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1] > 0
    assert push_folder(client, "acme/dock", folder, "again").id == first.id
    one = client.dataset("acme/dock")
    assert (one.private, one.commit, one.offered) == (True, first.id, False)
    summary = client.dataset_summary("acme/dock")
    assert (summary.images, summary.instances, summary.classes, summary.note) == (5, 4, {"box": 4}, "")
    listed = list(client.dataset_images("acme/dock"))
    assert [(image.pos, image.file, image.width, image.split, image.instances) for image in listed] == [
        (k, f"images/{k}.png", 24, "train", k % 3) for k in range(5)
    ]
    assert listed[3].sha256 == hashlib.sha256(picture(3)).hexdigest()
    (folder / "images" / "0.png").unlink()
    assert push_folder(client, "acme/dock", folder, "less").parent == first.id
    assert client.dataset_summary("acme/dock").note.startswith("1 images of annotations.json are not")
    back = tmp_path / "back"
    pull_folder(client, "acme/dock", first.id, back)
    assert (back / "images" / "0.png").read_bytes() == picture(0)
    assert client.audit(action="commit_upload")[0].detail["commit"] == client.dataset("acme/dock").commit


def test_images_come_in_pages(client: HubClient, raw: TestClient[Any], admin: dict[str, str], tmp_path: Path) -> None:
    push_folder(client, "acme/dock", folder_of(tmp_path / "set", 7), "one")
    route = "/api/v1/datasets/acme/dock/images?limit=3"
    pages = []
    while route:
        answer = raw.get(route, headers=admin)
        pages.append([image["pos"] for image in answer.json()])
        route = answer.links["next"]["url"] if "next" in answer.links else ""
    assert pages == [[0, 1, 2], [3, 4, 5], [6]]
    assert raw.get("/api/v1/datasets/acme/dock/images?split=test", headers=admin).json() == []
    shown = raw.get("/api/v1/datasets/acme/dock/images/2", headers=admin)
    assert shown.content == picture(2) and shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert raw.get("/api/v1/datasets/acme/dock/images/99", headers=admin).status_code == 404


def test_parts_follow_one_another_and_the_same_manifest_goes_on(client: HubClient) -> None:
    data = {"annotations.json": json.dumps({"images": [], "x": "y" * 5000}).encode(), "a.png": picture(1)}
    files = manifest(data)
    big, digest = data["annotations.json"], files[0].sha256
    upload = client.start_upload("acme/parts", files, "m")
    assert client.put_file(upload.id, digest, big[:2000], offset=0, total=len(big)).received == 2000
    with pytest.raises(HubAnswerError, match="2000 bytes have arrived"):
        client.put_file(upload.id, digest, big[2500:3000], offset=2500, total=len(big))
    again = client.start_upload("acme/parts", files, "m")
    assert again.id == upload.id
    assert {one.sha256: one.received for one in again.missing} == {digest: 2000, files[1].sha256: 0}
    with pytest.raises(HubAnswerError, match="2 files have not arrived"):
        client.commit_upload(upload.id)
    assert client.put_file(upload.id, digest, big[2000:], offset=2000, total=len(big)).complete
    client.put_file(upload.id, files[1].sha256, data["a.png"], offset=0, total=len(data["a.png"]))
    made = client.commit_upload(upload.id)
    assert client.commit_upload(upload.id).id == made.id, "asking twice is one commit"
    other = client.start_upload("acme/parts", manifest({"a.png": picture(1)}), "m")
    late = client.start_upload("acme/parts", manifest({"README.md": b"# x\n"}), "m")
    client.commit_upload(other.id)
    client.put_file(late.id, hashlib.sha256(b"# x\n").hexdigest(), b"# x\n", offset=0, total=4)
    with pytest.raises(HubAnswerError) as error:
        client.commit_upload(late.id)
    assert error.value.slug == "head-moved"


def test_wrong_bytes_are_refused_and_can_be_sent_anew(client: HubClient, services: Services) -> None:
    good = picture(5)
    (file,) = manifest({"a.png": good})
    upload = client.start_upload("acme/wrong", [file], "m")
    with pytest.raises(HubAnswerError) as error:
        client.put_file(upload.id, file.sha256, picture(6)[: len(good)].ljust(len(good)), offset=0, total=len(good))
    assert error.value.slug == "digest"
    half = len(good) // 2
    client.put_file(upload.id, file.sha256, b"x" * half, offset=0, total=len(good))
    with pytest.raises(HubAnswerError) as error:
        client.put_file(upload.id, file.sha256, good[half:], offset=half, total=len(good))
    assert error.value.slug == "digest"
    assert client.upload(upload.id).missing[0].received == 0
    client.put_file(upload.id, file.sha256, good, offset=0, total=len(good))
    client.commit_upload(upload.id)


# --- hostile ---


def bomb_png() -> bytes:
    """A header that claims 60,000 x 60,000 pixels."""
    whole = bytearray(picture())
    whole[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(whole)


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("run.sh", "#!/bin/sh\n")
    return buffer.getvalue()


def appended_zip(image: bytes) -> bytes:
    buffer = io.BytesIO(image)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("run.sh", "#!/bin/sh\n")
    return buffer.getvalue()


PICKLE = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94."
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
CONTENTS: list[tuple[str, bytes, str]] = [
    ("images/a.png", bomb_png(), "60000x60000"),
    ("images/a.jpg", appended_zip(jpeg()), "ZIP archive at once"),
    ("images/a.png", appended_zip(picture()), "behind the PNG's end"),
    ("images/a.jpg", jpeg() + b"<script>alert(1)</script>", "a page or a script"),
    ("images/a.png", SVG, "is markup, not a JPEG or PNG"),
    ("images/a.png", zip_bytes(), "is a ZIP archive"),
    ("images/a.png", PICKLE, "is a pickle"),
    ("images/a.jpg", b"\x7fELF" + b"\0" * 60, "is a program"),
    ("images/a.png", picture()[:40], "cut short"),
    ("README.md", SVG, "a page or a drawing"),
    ("README.md", b"<!DOCTYPE html><script>alert(1)</script>", "a page or a drawing"),
    ("annotations.json", PICKLE, "not text"),
    ("annotations.json", b"{}\0", "not text"),
    ("notes.txt", b"\xff\xfe\x00a", "not text"),
    ("data.parquet", zip_bytes(), "not a Parquet file"),
]
NAMES: list[tuple[str, str]] = [
    ("../../etc/cron.d/x.txt", "'..'"),
    ("/etc/passwd.txt", "''"),
    ("images/../../a.png", "'..'"),
    ("a\\..\\b.png", "backslash"),
    ("images/\x00.png", "control"),
    ("images/\n.png", "control"),
    ('images/<img src=x onerror="alert(1)">.png', "must not hold"),
    ("images/a.svg", "a dataset holds"),
    ("model.safetensors", "a dataset holds"),
    ("train.py", "a dataset holds"),
    ("set.zip", "a dataset holds"),
    (".git/hooks/a.txt", ".git"),
    ("images/a.png ", "end with a space"),
]


def nothing_written(services: Services) -> bool:
    datasets = services.registry.repos.list("dataset")
    parts = list((services.settings.data / "dataset-uploads").rglob("*.part"))
    return not datasets and not parts


@pytest.mark.parametrize(("path", "data", "said"), CONTENTS, ids=[f"{p}-{w}" for p, _, w in CONTENTS])
def test_hostile_contents_are_refused(client: HubClient, services: Services, path: str, data: bytes, said: str) -> None:
    (file,) = manifest({path: data})
    upload = client.start_upload("acme/evil", [file], "m")
    for cut in (len(data), len(data) // 2):  # in one piece, and in parts
        with pytest.raises(HubAnswerError, match=said) as error:
            client.put_file(upload.id, file.sha256, data[:cut], offset=0, total=len(data))
            client.put_file(upload.id, file.sha256, data[cut:], offset=cut, total=len(data))
        assert (error.value.status, error.value.slug) == (422, "refused-file")
    assert services.store.blobs.sizes([file.sha256]) == {file.sha256: None}
    with pytest.raises(HubAnswerError, match="have not arrived"):
        client.commit_upload(upload.id)
    assert nothing_written(services)
    # What came by another door is looked at before it becomes part of a dataset.
    client.put_blob(data)
    with pytest.raises(HubAnswerError, match=said):
        client.commit_upload(upload.id)
    assert nothing_written(services)


def test_hostile_names_are_refused(client: HubClient, services: Services) -> None:
    for path, said in NAMES:
        with pytest.raises(HubAnswerError, match=said) as error:
            client.start_upload("acme/evil", manifest({path: picture()}), "m")
        assert error.value.status in (400, 422), path
        assert nothing_written(services), path
        assert not any((services.settings.data / "dataset-uploads").iterdir()), path


def test_claims_of_many_bytes_are_refused_before_one_travels(
    client: HubClient, raw: TestClient[Any], admin: dict[str, str], services: Services
) -> None:
    claim = ManifestFile(path="a.json", size=10 * 1024**3, sha256="0" * 64)
    with pytest.raises(HubAnswerError) as error:
        client.start_upload("acme/huge", [claim], "m")
    assert (error.value.status, error.value.slug) == (413, "too-large")
    image = ManifestFile(path="a.png", size=3_900_000, sha256="0" * 64)
    upload = client.start_upload("acme/huge", [image], "m")
    route = f"/api/v1/uploads/{upload.id}/files/{'0' * 64}"
    span = {**admin, "Content-Range": "bytes 0-9/10737418240"}
    assert raw.put(route, headers=span, content=b"0" * 10).status_code == 400
    lying = {**admin, "Content-Range": "bytes 3899990-3900099/3900100"}
    assert raw.put(route, headers=lying, content=b"0" * 110).status_code in (400, 413)
    for wrong in ("bytes 5-1/10", "bytes */10", "lines 0-1/2", "bytes 0-1", "x" * 500):
        assert raw.put(route, headers={**admin, "Content-Range": wrong}, content=b"00").status_code == 400
    assert raw.put(route, headers=admin, content=b"0" * 34_000_000).status_code == 413
    assert nothing_written(services)


def test_knowing_a_digest_gives_nobody_another_teams_file(
    client: HubClient, as_job: Callable[[str], HubClient], services: Services, tmp_path: Path
) -> None:
    secret = picture(42)
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "a.png").write_bytes(secret)
    push_folder(client, "acme/secret", folder, "m", private=True)
    services.users.put("bob", teams=["rival"])
    with as_job(services.tokens.issue("bob", {Scope.CONTRIBUTE}, user="bob")) as bob:
        files = manifest({"a.png": secret})
        upload = bob.start_upload("rival/mine", files, "m")
        assert [one.sha256 for one in upload.missing] == [files[0].sha256], "to bob it is a file that nobody has"
        with pytest.raises(HubAnswerError, match="have not arrived"):
            bob.commit_upload(upload.id)
        with pytest.raises(HubAnswerError, match="no write access"):
            bob.start_upload("acme/secret", files, "m")
        theirs = client.start_upload("acme/secret", manifest({"b.png": picture(1)}), "m")
        for call in (bob.upload, bob.commit_upload, bob.abort_upload):
            with pytest.raises(HubAnswerError) as error:
                call(theirs.id)
            assert error.value.slug == "unknown-upload"
        with pytest.raises(HubAnswerError) as error:
            bob.put_file(theirs.id, files[0].sha256, secret, offset=0, total=len(secret))
        assert error.value.slug == "unknown-upload"


def test_a_team_that_is_full_is_told_so(client: HubClient) -> None:
    from hub.schemas.resources import QuotaIn

    client.put_team("acme", "ACME")
    assert client.set_quota("acme", QuotaIn(bytes=100)).bytes == 100
    with pytest.raises(HubAnswerError, match="stores 0 of its 100 bytes") as error:
        client.start_upload("acme/dock", manifest({"a.png": picture()}), "m")
    assert (error.value.status, error.value.slug) == (429, "quota")


# --- killed in the middle ---


@pytest.mark.slow
def test_an_upload_survives_the_death_of_either_side(tmp_path: Path) -> None:
    base = write_base_files(tmp_path / "base")
    settings = Settings.load({}, data=tmp_path / "data", base_source=base).on_free_ports()
    folder = folder_of(tmp_path / "set", 40)
    (folder / "big.json").write_text(json.dumps({"pad": "x" * 9_000_000}))
    log = tmp_path / "hub.log"
    process = start_hub(settings, log)
    try:
        with HubClient.of(settings) as client:
            # The client dies: it has sent some files, and a part of the large one.
            files = [
                ManifestFile(
                    path=p.relative_to(folder).as_posix(),
                    size=p.stat().st_size,
                    sha256=hashlib.sha256(p.read_bytes()).hexdigest(),
                )
                for p in sorted(folder.rglob("*"))
                if p.is_file()
            ]
            by_path = {file.path: file for file in files}
            upload = client.start_upload("acme/dock", files, "the set")
            for k in range(10):
                data = (folder / f"images/{k}.png").read_bytes()
                client.put_file(upload.id, by_path[f"images/{k}.png"].sha256, data, offset=0, total=len(data))
            big = (folder / "big.json").read_bytes()
            client.put_file(upload.id, by_path["big.json"].sha256, big[:4_000_000], offset=0, total=len(big))
            # The hub dies, and another push meets it while it is away.
            process.send_signal(signal.SIGKILL)
            process.wait()
            made: list[str] = []
            seen: list[int] = []
            pusher = threading.Thread(
                target=lambda: made.append(
                    push_folder(client, "acme/dock", folder, "the set", progress=lambda d, _: seen.append(d)).id
                )
            )
            pusher.start()
            process = start_hub(settings, log)
            pusher.join(timeout=240)
            assert made, log.read_text()[-2000:]
            assert seen[0] >= 4_000_000, "what had arrived was not sent again"
            assert client.dataset_summary("acme/dock").images == 40
            assert {f.path: f.sha256 for f in client.tree("dataset", "acme/dock", "main").files} == {
                file.path: file.sha256 for file in files
            }
    finally:
        stop(process, grace_seconds=10)
