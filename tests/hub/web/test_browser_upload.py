"""A team's first dataset in a real Chromium: folder or archive, progress, cancel, on again after a reload."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.client.client import HubClient
from hub.settings import Settings
from tests.hub.material import running_hub, running_worker, wait_for, write_base_files, write_rectangles
from tests.hub.web.chromium import NEEDS_CHROMIUM, SMALL, Site, playwright, signed_in, until

pytestmark = NEEDS_CHROMIUM
EXPECTED = "status of (404|409|422)|net::ERR_FAILED"  # what tests provoke


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hub")
    base = write_base_files(folder / "base")
    settings = Settings.load({}, data=folder / "data", base_source=base).on_free_ports()
    with running_hub(settings, folder / "hub.log"), running_worker(settings):
        yield Site(settings, settings.client_token())


@pytest.fixture
def page(chromium: playwright.Browser, hub: Site) -> Iterator[playwright.Page]:
    with signed_in(chromium, hub, expected=EXPECTED) as page:
        yield page


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO folder with what people leave in one: hidden files, and files that no dataset holds."""
    folder = write_rectangles(tmp_path_factory.mktemp("in") / "frames", images=9)
    (folder / ".cache").write_text("x")
    (folder / "train" / "labels.cache").write_bytes(b"\x80\x04pickle")
    return folder


@pytest.fixture
def unseen(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder that no other test has sent: what the hub has is not sent again."""
    return write_rectangles(tmp_path / "unseen", images=9, seed=sum(request.node.name.encode()))


def begin(page: playwright.Page, hub: Site, name: str) -> None:
    page.goto(hub.at("/ui/datasets"))
    page.click("main >> text=Upload a dataset")
    page.fill("#team", "acme")
    page.fill("#name", name)


def checked(page: playwright.Page, hub: Site, name: str, images: int) -> None:
    """The check's page comes by itself, and ends with the dataset in the hub's form."""
    page.wait_for_url(f"**/ui/datasets/acme/{name}/check")
    page.wait_for_selector("h2 .chip", timeout=600_000)
    assert "cannot be used" not in page.locator("main").inner_text()
    with HubClient(hub.settings.url, hub.token) as client:
        found = client.dataset_summary(f"acme/{name}", "main")
        assert (found.images, found.instances) == (images, 3 * images)
        assert not any("cache" in file.path for file in client.tree("dataset", f"acme/{name}", "main").files)


def test_a_folder_from_keys_alone(page: playwright.Page, hub: Site, frames: Path) -> None:
    begin(page, hub, "folder")
    page.focus("#name")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "private"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "folder"
    style = "(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth; })()"
    assert page.evaluate(style) == "solid3px"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(frames))
    checked(page, hub, "folder", 9)


@pytest.mark.parametrize("secure", [True, False])
def test_an_archive_also_where_the_browser_has_no_digests(
    page: playwright.Page, hub: Site, frames: Path, tmp_path: Path, secure: bool
) -> None:
    name = f"archive-{int(secure)}"
    if not secure:  # pages that came by plain HTTP from another machine
        page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });")
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as archive:
        for number, path in enumerate(sorted(frames.rglob("*"))):
            way = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.write(path, f"frames/{path.relative_to(frames)}", way)
    begin(page, hub, name)
    page.set_input_files("#archive", str(tmp_path / "frames.zip"))
    checked(page, hub, name, 9)


def test_a_reload_in_the_middle_goes_on_where_it_was(page: playwright.Page, hub: Site, unseen: Path) -> None:
    sent: list[str] = []

    def some(route: Any) -> None:
        if len(sent) >= 5:
            route.abort()
        else:
            sent.append(route.request.url)
            route.continue_()

    page.route("**/ui/uploads/*/files/*", some)
    begin(page, hub, "again")
    page.set_input_files("#folder", str(unseen))
    until(page, "/trying again/.test(document.getElementById('said').textContent)")
    assert page.evaluate("document.getElementById('bar').value") > 0.2
    page.unroute("**/ui/uploads/*/files/*")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(hub.at("/ui/datasets/new"))
    assert "upload to acme/again was interrupted" in page.locator("#resume").inner_text()
    assert (page.input_value("#team"), page.input_value("#name")) == ("acme", "again")
    rest: list[str] = []
    page.on("request", lambda asked: rest.append(asked.url) if asked.method == "PUT" else None)
    page.set_input_files("#folder", str(unseen))
    checked(page, hub, "again", 9)
    assert rest and not {url.rpartition("/")[2] for url in rest} & {url.rpartition("/")[2] for url in sent}


def test_cancel_forgets_the_upload(page: playwright.Page, hub: Site, unseen: Path) -> None:
    page.route("**/ui/uploads/*/files/*", lambda route: route.abort())
    begin(page, hub, "never")
    page.set_input_files("#folder", str(unseen))
    until(page, "document.getElementById('upload').dataset.upload")
    upload = page.evaluate("document.getElementById('upload').dataset.upload")
    assert page.evaluate("document.activeElement.id") == "cancel"
    page.keyboard.press("Enter")
    until(page, "document.getElementById('way').hidden")
    assert page.locator("#problem").is_hidden() and page.is_enabled("#name")

    def gone() -> bool:
        return page.context.request.get(hub.at(f"/ui/uploads/{upload}")).status == 404

    wait_for(gone, seconds=60)
    page.reload()
    assert page.locator("#resume").is_hidden()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("frames.zip", b"not an archive", "not a ZIP archive"),
        ("frames.zip", None, "no file in it that a dataset holds"),
    ],
)
def test_what_cannot_be_used_is_said(
    page: playwright.Page, hub: Site, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights.pt", b"x")
    else:
        path.write_bytes(content)
    begin(page, hub, "wrong")
    page.set_input_files("#archive", str(path))
    until(page, "!document.getElementById('problem').hidden")
    assert said in page.locator("#problem").inner_text()
    assert page.evaluate("document.activeElement.id") == "problem"


def test_it_fits_a_small_window(chromium: playwright.Browser, hub: Site) -> None:
    with signed_in(chromium, hub, expected=EXPECTED, size=SMALL) as page:
        page.goto(hub.at("/ui/datasets/new"))
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
