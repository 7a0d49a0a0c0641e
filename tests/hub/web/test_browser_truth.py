"""What pages show is so: masks lie on their packages at every width, counts are of what is drawn, the verdict leads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from finetune.contract import FinetuneResult
from finetune.datasets import Sample, write_dataset
from finetune.datasets.types import Dataset
from hub.client.client import HubClient
from hub.kinds.finetune import _publish
from hub.schemas.core import FinetuneIn
from hub.settings import Settings
from serving.instances import Instances
from tests.hub.material import running_hub, running_worker, write_base_files, write_rectangles, write_variant
from tests.hub.web.chromium import NEEDS_CHROMIUM, Site, playwright, signed_in, until
from tests.scale import NIGHTLY, scaled

pytestmark = NEEDS_CHROMIUM
WIDTHS = scaled((375, 1440), (375, 900, 1440))
# Wide, and so high that no window shows it at full width: where masks were beside their packages.
SIZES = {"wide.png": (1600, 500), "high.png": (400, 1400)}
USELESS = {
    "base_ap50": 0.0, "variant_ap50": 0.03, "gain_ap50_low": 0.01, "gain_ap50_high": 0.05, "found": 4, "missed": 92,
    "extra": 1, "base_found": 0, "images_holdout": 24, "holdout_packages": 96, "images_train": 40, "steps": 300,
}  # fmt: skip
EXPECTED = "status of (404|409|422)"
DARK, RED = (60, 60, 60), (255, 0, 0)


def package(name: str) -> tuple[int, int, int, int]:
    """Where the package of a picture is: (x0, y0, x1, y1) in pixels."""
    width, height = SIZES[name]
    return width // 8, height // 2, width // 2, height * 9 // 10


def rectangle(name: str, corners: tuple[int, int, int, int], score: float | None = None) -> Instances:
    width, height = SIZES[name]
    mask = np.zeros((1, height, width), np.bool_)
    x0, y0, x1, y1 = corners
    mask[0, y0:y1, x0:x1] = True
    return Instances.from_masks(mask, ["box"], None if score is None else [score])


def write_pictures(folder: Path) -> Path:
    """A dataset of two pictures with a red package each, its mask exactly on it."""
    (folder / "in").mkdir(parents=True)
    samples = []
    for name, (width, height) in SIZES.items():
        pixels = np.full((height, width, 3), DARK, np.uint8)
        x0, y0, x1, y1 = package(name)
        pixels[y0:y1, x0:x1] = RED
        cv2.imwrite(str(folder / "in" / name), pixels[:, :, ::-1])
        truth = rectangle(name, package(name))
        samples.append(Sample(folder / "in" / name, width, height, truth.labels, truth.masks, name=name))
    write_dataset(Dataset("pictures", ("box",), tuple(samples), (), "coco"), folder / "out", licence="cc0-1.0")
    return folder / "out"


def seen(instances: Instances, score: float | None = None) -> list[dict[str, Any]]:
    more = {} if score is None else {"score": score}
    return [{"label": "box", "counts": one.decode(), **more} for one in instances.masks]


def report() -> dict[str, str]:
    """One hit, one answer that is too unsure to be drawn, and the base that finds nothing but a corner."""
    images, worst = [], []
    for name, (width, height) in SIZES.items():
        hit = rectangle(name, package(name))
        corner = rectangle(name, (0, 0, width // 16, height // 16))
        images.append(
            {
                "name": name, "width": width, "height": height, "truth": seen(hit),
                "base": seen(corner, 0.9), "variant": seen(hit, 0.9) + seen(corner, 0.35),
            }
        )  # fmt: skip
        worst.append({"image": name, "found": 1, "missed": 0, "extra": 0})
    score = {"ap": 0.5, "ap50": 0.8, "ap75": 0.4}
    facts = {"verdict": "not yet", "sentences": ["In words."], "base": score, "variant": score, "worst": worst}
    return {"report.json": json.dumps(facts), "predictions.json": json.dumps({"classes": ["box"], "images": images})}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A hub with the two pictures and a useless variant that was judged on them."""
    folder = tmp_path_factory.mktemp("site")
    base = write_base_files(folder / "base")
    settings = Settings.load({}, data=folder / "data", base_source=base).on_free_ports()
    with running_hub(settings, folder / "hub.log"):
        with HubClient.of(settings) as client:
            client.push_folder("dataset", "acme/pictures", write_pictures(folder / "pictures"), "two")
            client.create_cell("dock", "")
            job = client.finetune(FinetuneIn(cell="dock", dataset="acme/pictures"))
            claim = client.claim("w1")
            assert claim is not None
            variant, deck = write_variant(folder / "variant", job.spec.base_commit, "one")
            for name, text in report().items():
                (variant / name).write_text(text)
            with HubClient(settings.url, claim.token) as mine:
                commit, digest = _publish(mine, claim.job, FinetuneResult(variant, deck, USELESS))
                mine.finish(job.id, commit=commit, deck=digest, metrics=USELESS)
        with running_worker(settings):
            yield Site(settings, settings.client_token())


@pytest.fixture
def page(chromium: playwright.Browser, site: Site) -> Iterator[playwright.Page]:
    with signed_in(chromium, site, expected=EXPECTED) as page:
        yield page


# --- masks on their packages ------------------------------------------------------------------------------------------


def shot(page: playwright.Page, scene: playwright.Locator, *, overlay: bool) -> npt.NDArray[np.int16]:
    """The pixels of a picture on the page, with or without its masks; int16 [h, w, 3]."""
    hide = "e => e.querySelectorAll('.overlay, #line').forEach(o => o.setAttribute('visibility', %s))"
    scene.evaluate(hide % ("'visible'" if overlay else "'hidden'"))
    data = scene.screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def bounds(found: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert len(rows) and len(columns), "nothing is drawn"
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def on_its_package(page: playwright.Page, scene: playwright.Locator) -> None:
    """The masks' pixels are where the photograph is red, to the width of a line."""
    scene.scroll_into_view_if_needed()
    loaded = "e => [...e.querySelectorAll('image')].map(i => i.getAttribute('href'))"
    for address in scene.evaluate(loaded):
        page.evaluate("a => { const i = new Image(); i.src = a; return i.decode().catch(() => 0); }", address)
    page.wait_for_timeout(50)
    plain = shot(page, scene, overlay=False)
    drawn = shot(page, scene, overlay=True)
    height = plain.shape[0] - (26 if scene.evaluate("e => !!e.closest('.tile')") else 0)  # a tile's name lies below
    red = (plain[:, :, 0] - plain[:, :, 1] > 100) & (plain[:, :, 2] < 120)
    masks = np.abs(drawn - plain).max(2) > 24
    photo, overlay = bounds(red[:height]), bounds(masks[:height])
    assert all(abs(one - other) <= 5 for one, other in zip(photo, overlay, strict=True)), (photo, overlay, page.url)


def test_masks_lie_on_their_packages_at_every_width(page: playwright.Page, site: Site) -> None:
    """A page is loaded in a small window, which then grows; at night it is loaded anew at each width."""
    looks = [("/ui/datasets/acme/pictures", ".tile svg.scene", 2)]
    looks += [(f"/ui/datasets/acme/pictures/images/{number}", "#wall svg.scene", 1) for number in range(2)]
    for name in SIZES:
        looks += [(f"/ui/compare?a=base&b=dock@v1&way=side&name={name}", ".side figure:nth-child(n+2) svg.scene", 2)]
        looks += [(f"/ui/compare?a=base&b=dock@v1&name={name}", ".side svg.scene", 1)]
    looks += [("/ui/models/dock/v1", ".worst svg.scene", 2)]
    for address, selector, count in looks:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if NIGHTLY or width == WIDTHS[0]:
                page.goto(site.at(address))
            scenes = page.locator(selector)
            assert scenes.count() == count, address
            for k in range(count):
                on_its_package(page, scenes.nth(k))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_counts_are_of_what_is_drawn_and_each_kind_has_its_shape(page: playwright.Page, site: Site) -> None:
    page.goto(site.at("/ui/compare?a=base&b=dock@v1&way=side&name=high.png"))
    captions = page.locator(".side figcaption").all_inner_texts()
    assert captions == [
        "the shared base: 0 found, 1 missed, 1 false find",
        "dock@v1: 1 found, 0 missed, 0 false finds",
        "as labelled: 1 package",
    ]
    drawn = [page.locator(f".side figure:nth-child(1) g.{kind}").count() for kind in ("hit", "miss", "false")]
    assert drawn == [0, 1, 1]
    assert page.locator(".side figure:nth-child(2) g.hit").count() == 1
    assert page.locator("ul.shapes").inner_text().split("\n") == ["found", "missed", "false find"]


def test_each_tile_of_what_fails_opens_its_own_picture(page: playwright.Page, site: Site) -> None:
    for name in SIZES:
        page.goto(site.at("/ui/models/dock/v1"))
        page.click(f".worst a:has-text('{name}')")
        page.wait_for_url("**/ui/compare?**")
        assert page.locator("main h2").first.inner_text().startswith(name)


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_a_useless_variant_reads_so_on_every_page_and_the_gate_refuses_it(page: playwright.Page, site: Site) -> None:
    with HubClient.of(site.settings) as client:
        version = client.variant("dock@v1")
    assert version.judgement is not None and version.judgement.verdict == "not yet"
    page.set_viewport_size({"width": 375, "height": 720})
    for address in ("/ui/models/dock/v1", f"/ui/jobs/{version.job}"):
        page.goto(site.at(address))
        banner = page.locator(".verdict")
        assert (
            banner.locator(".word").inner_text() == "Not yet" and "4% of the packages (4 of 96)" in banner.inner_text()
        )
        assert "Label more images" in banner.locator(".next").inner_text()
        box = banner.bounding_box()
        assert box is not None and box["y"] + box["height"] < 720, "it is on the first screen"
        assert "better" not in page.locator("main").inner_text()
        colour = "e => getComputedStyle(e).borderLeftColor"
        assert banner.evaluate(colour) == "rgb(163, 42, 42)"
    for address in ("/ui/", "/ui/cells/dock"):
        page.goto(site.at(address))
        assert page.locator(".chip.not-yet").first.inner_text() == "not yet"
    page.goto(site.at("/ui/models/dock/v1"))
    assert page.locator("input[name=stage]:checked").count() == 0, "no stage is proposed"
    page.check("input[value=fleet]")
    page.click("button:has-text('Promote')")
    page.wait_for_selector(".problem")
    assert "the verdict on it is not “ready”" in page.locator(".problem").inner_text()


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_the_archive_may_come_before_the_name_and_a_damaged_picture_is_left_out(
    page: playwright.Page, site: Site, tmp_path: Path
) -> None:
    folder = write_rectangles(tmp_path / "frames", images=9, seed=5)
    pictures = sorted(folder.rglob("*.png"))
    pictures[0].write_bytes(b"no picture at all")  # refused by the hub
    pictures[1].write_bytes(pictures[1].read_bytes()[:-300] + pictures[1].read_bytes()[-12:])  # cannot be decoded
    archive = tmp_path / "dock 7 (new).zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.rglob("*"):
            packed.write(path, path.relative_to(folder.parent))
    page.goto(site.at("/ui/datasets/new"))
    assert page.locator("input[name=private]").is_checked()
    page.set_input_files("#archive", archive)
    page.wait_for_selector("#begin:visible")
    assert page.locator("#name").input_value() == "dock-7-new" and "dock 7" in page.locator("#chosen").inner_text()
    page.fill("#name", "dock-7")
    page.fill("#team", "acme")
    page.click("#begin")
    page.wait_for_url("**/ui/datasets/acme/dock-7/check")
    page.wait_for_selector("#notes")
    notes = page.locator("#notes").inner_text()
    assert "damaged picture" in notes and pictures[0].name in notes and pictures[1].name in notes, notes
    page.goto(site.at("/ui/datasets/acme/dock-7"))
    assert "7 images" in page.locator("main").inner_text() and page.locator(".chip:has-text('private')").count() == 1


def test_data_that_cannot_be_used_offers_no_fine_tune(page: playwright.Page, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((40, 40, 3), np.uint8))
    page.goto(site.at("/ui/datasets/new"))
    page.fill("#team", "acme")
    page.fill("#name", "bare")
    page.set_input_files("#folder", folder)
    page.wait_for_url("**/ui/datasets/acme/bare/check")
    page.wait_for_selector(".chip.error")
    text = page.locator("main").inner_text()
    assert not any(ord(char) < 32 and char not in "\n\t" for char in text) and "━" not in text
    for address in ("/ui/datasets/acme/bare", "/ui/datasets/acme/bare/check"):
        page.goto(site.at(address))
        assert page.locator("text=Fine-tune on this").count() == 0
        assert page.locator("#unusable").count() == 1
    page.goto(site.at("/ui/finetune?dataset=acme/bare"))
    assert page.locator("button:has-text('Start')").is_disabled()


# --- what a link or a reload can do -----------------------------------------------------------------------------------


def test_a_reload_makes_no_second_token_and_a_link_puts_no_words_on_a_page(page: playwright.Page, site: Site) -> None:
    page.goto(site.at("/ui/settings"))
    page.fill("#name", "once")
    page.click("button:has-text('Make token')")
    page.wait_for_selector("#made")
    page.reload()
    assert page.locator("#made").count() == 0
    with HubClient.of(site.settings) as client:
        assert [one.name for one in client.tokens()].count("once") == 1
    words = "Your account is locked, call 555"
    for address in (
        "/ui/?notice=",
        "/ui/finetune?dataset=",
        "/ui/finetune?cell=",
        "/ui/datasets/new?dataset=",
        "/ui/compare?a=",
    ):
        page.goto(site.at(address + words))
        assert words not in page.content(), address


def test_the_api_is_described_without_the_internet(page: playwright.Page, site: Site) -> None:
    page.goto(site.at("/schema"))  # `signed_in` fails for any request that goes elsewhere
    assert page.locator("details").count() > 50
    page.click("summary:has-text('/api/v1/finetunes')")
    assert "FinetuneIn" in page.locator("details[open]").first.inner_text()
    until(page, "document.styleSheets.length > 0")
