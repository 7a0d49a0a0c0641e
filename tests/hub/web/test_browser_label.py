"""The labelling page in a real Chromium: what hands do with a picture, and the very polygons that the hub keeps."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from hub.client.client import HubClient
from hub.settings import Settings
from serving.instances import Instances
from serving.observed.captures import Capture, CaptureStore
from tests.hub.material import running_hub, write_base_files
from tests.hub.web.chromium import NEEDS_CHROMIUM, SMALL, Site, playwright, signed_in, until

pytestmark = NEEDS_CHROMIUM
EXPECTED = "status of (401|403|404|409)|ERR_INTERNET_DISCONNECTED|ERR_FAILED"
HEIGHT, WIDTH = 300, 400
BOXES = {"a": (40, 40, 140, 120), "b": (150, 40, 240, 120), "c": (40, 160, 240, 260)}
Bool = npt.NDArray[np.bool_]


def masks() -> list[Bool]:
    """Three rectangles, and a mask of two parts of which one has a hole."""
    found = []
    for x0, y0, x1, y1 in BOXES.values():
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[y0:y1, x0:x1] = True
        found.append(mask)
    ring = np.zeros((HEIGHT, WIDTH), bool)
    ring[cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (320, 100), 50, 1, -1) > 0] = True
    ring[cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (320, 100), 21, 1, -1) > 0] = False
    ring[200:231, 300:371] = True
    return [*found, ring]


def put_captures(settings: Settings, cell: str, count: int = 1) -> None:
    store = CaptureStore(settings.telemetry_folder / "captures")
    for k in range(count):
        pixels = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
        pixels[10 * k : 10 * k + 8] = 150
        for mask, tone in zip(masks(), ((190, 140, 90), (90, 150, 190), (120, 180, 110), (200, 200, 90)), strict=True):
            pixels[mask] = tone
        found = Instances.from_masks(np.stack(masks()), ["box"] * 4, [0.9, 0.8, 0.55, 0.95])
        at = 1_700_000_000.0 + k
        store.add(Capture(pixels, found, secrets.token_hex(8), at, "sample", f"{cell}@v1", cell, "l", "r"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("label")
    base = write_base_files(folder / "base")
    (base / "config.json").write_text('{"model_type": "eomt", "id2label": {"0": "box", "1": "bag"}}')
    settings = Settings.load({}, data=folder / "data", base_source=base).on_free_ports()
    with running_hub(settings, folder / "hub.log"):
        yield Site(settings, settings.client_token())


@pytest.fixture
def hub(site: Site) -> Iterator[HubClient]:
    with HubClient.of(site.settings) as client:
        yield client


class Desk:
    """A cell of its own with captures, open on the page."""

    def __init__(self, page: playwright.Page, site: Site, hub: HubClient, cell: str, count: int = 1) -> None:
        self.page, self.site, self.hub, self.cell = page, site, hub, cell
        hub.create_cell(cell, "", team="acme")
        put_captures(site.settings, cell, count)
        self.open()

    def open(self) -> None:
        self.page.goto(self.site.at(f"/ui/label/cells/{self.cell}"))
        until(self.page, "document.querySelectorAll('#canvas .region').length === 4")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A pixel of the picture on the screen."""
        place = self.page.evaluate(
            "([x, y]) => { const m = document.getElementById('canvas').getScreenCTM();"
            " return [m.a * x + m.e, m.d * y + m.f]; }",
            [x, y],
        )
        return place[0], place[1]

    def click(self, x: float, y: float, *, more: bool = False) -> None:
        """Click a pixel of the picture; `more` holds Shift down."""
        if more:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*self.at(x, y))
        if more:
            self.page.keyboard.up("Shift")

    def drag(self, *points: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=6)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def regions(self, count: int) -> None:
        until(self.page, f"document.querySelectorAll('#canvas .region').length === {count}")

    def idle(self) -> None:
        """Wait for what the page asks of the hub."""
        until(self.page, "!document.getElementById('labelling').hasAttribute('aria-busy')")

    def accepted(self) -> list[tuple[str, Bool]]:
        """Accept by the key, and what the hub keeps: (class, mask), the largest first."""
        before = {one.id for one in self.hub.label_tasks(self.cell, state="labelled")}
        self.press("Enter")
        until(self.page, "/^Saved/.test(document.getElementById('said').textContent)")
        (task,) = (one for one in self.hub.label_tasks(self.cell, state="labelled") if one.id not in before)
        found = [
            (one.label, coco_mask.decode({"size": [HEIGHT, WIDTH], "counts": one.mask.counts}).astype(bool))
            for one in self.hub.label_task(task.id).regions
        ]
        return sorted(found, key=lambda pair: -int(pair[1].sum()))


Open = Callable[..., Desk]


@pytest.fixture
def desk(chromium: playwright.Browser, site: Site, hub: HubClient) -> Iterator[Open]:
    with signed_in(chromium, site, expected=EXPECTED) as page:
        yield lambda cell, count=1: Desk(page, site, hub, cell, count)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Bool:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def iou(a: Bool, b: Bool) -> float:
    return float((a & b).sum() / (a | b).sum())


def like(found: list[tuple[str, Bool]], mask: Bool, least: float = 0.97) -> str:
    """The class of the one region that is this mask, nearly."""
    (label,) = (label for label, one in found if iou(one, mask) >= least)
    return label


def test_a_vertex_is_dragged_two_are_merged_one_is_split_and_the_rest_stays_exact(desk: Open) -> None:
    here = desk("hands")
    text = here.page.locator("#regions").inner_text()
    assert "55 % · not sure" in text
    here.click(90, 80)
    assert here.page.locator("#canvas [data-vertex]").count() == 4
    here.drag((140, 120), (140, 150))  # the corner of a, downwards
    here.press("Escape")
    here.click(195, 80)
    here.click(90, 80, more=True)
    here.press("m")
    here.regions(3)
    here.press("Control+z")
    here.regions(4)
    here.press("Escape")
    here.click(140, 210)
    here.press("2", "l")
    here.drag((140, 150), (140, 270))
    here.regions(5)
    found = here.accepted()
    assert len(found) == 5
    a = cv2.fillPoly(
        np.zeros((HEIGHT, WIDTH), np.uint8), [np.array([[40, 40], [139, 40], [139, 149], [40, 119]])], 1
    ).astype(bool)
    assert like(found, a) == "box"
    assert like(found, rectangle(*BOXES["b"]), 1.0) == "box", "merged and undone: not one pixel of it is lost"
    assert like(found, rectangle(40, 160, 140, 260), 0.98) == "bag"
    assert like(found, rectangle(140, 160, 240, 260), 0.98) == "bag"
    assert like(found, masks()[3], 1.0) == "box", "two parts and a hole, as they were"
    stats = here.hub.label_stats(here.cell)
    assert (stats.pictures, stats.regions_kept, stats.regions_changed, stats.regions_deleted) == (1, 2, 3, 2)
    assert stats.clicks >= 5 and stats.keys >= 6 and stats.seconds > 0
    assert here.hub.label_batches(here.cell) == []
    here.page.click("text=Put labels into the dataset")
    until(here.page, "/acme\\/hands-labels/.test(document.getElementById('said').textContent)")
    assert here.hub.label_batches(here.cell)[0].instances == 5


def test_merging_drawing_the_brush_and_deleting(desk: Open) -> None:
    here = desk("tools")
    here.click(90, 80)
    here.click(195, 80, more=True)
    here.press("m")
    here.regions(3)
    here.press("b")  # a bridge over the gap between a and b
    here.drag((130, 80), (160, 80))
    here.press("v", "Escape")
    here.click(140, 210)
    here.press("Delete")
    here.regions(2)
    here.press("d", "2")
    for x, y in ((20, 270), (120, 270), (120, 295)):
        here.click(x, y)
    here.press("Enter")
    here.regions(3)
    here.press("c")
    here.drag((70, 276), (71, 276))
    here.press("v", "Escape")
    here.click(320, 210)
    here.press("x")
    here.regions(2)
    here.press("u")
    here.regions(3)
    here.press("U")
    here.regions(2)
    found = here.accepted()
    merged = rectangle(*BOXES["a"]) | rectangle(*BOXES["b"])
    (whole,) = (mask for label, mask in found if label == "box")
    assert (whole & ~merged).sum() and iou(whole, merged) > 0.93
    assert whole[80, 145], "the bridge"
    parts, _ = cv2.connectedComponents(whole.astype(np.uint8))
    assert parts == 2, "one part beside the background"
    (drawn,) = (mask for label, mask in found if label == "bag")
    assert drawn[272, 100] and not drawn[276, 70], "cut where the brush went"


def test_points_are_added_and_taken_away_at_any_zoom(desk: Open) -> None:
    here = desk("points")
    here.page.mouse.move(*here.at(90, 80))
    for _ in range(5):
        here.page.mouse.wheel(0, -180)
    width = here.page.evaluate("document.getElementById('canvas').viewBox.baseVal.width")
    assert width < WIDTH / 4
    where = here.at(90, 80)
    here.page.mouse.wheel(0, -100)
    assert np.hypot(*np.subtract(here.at(90, 80), where)) < 2, "what is under the pointer stays there"
    here.press("f")
    here.click(90, 80)
    here.drag((90, 40), (90, 20))  # the round in the middle of the upper edge
    assert here.page.locator("#canvas [data-vertex]").count() == 5
    here.page.mouse.dblclick(*here.at(40, 120))
    assert here.page.locator("#canvas [data-vertex]").count() == 4
    found = here.accepted()
    tent = cv2.fillPoly(
        np.zeros((HEIGHT, WIDTH), np.uint8), [np.array([[40, 40], [90, 20], [139, 40], [139, 119]])], 1
    ).astype(bool)
    assert like(found, tent, 0.94) == "box"


def test_an_answer_outlives_a_lost_connection_and_a_closed_page(desk: Open) -> None:
    here = desk("offline", 2)
    context = here.page.context
    here.click(90, 80)
    here.press("Delete")
    here.regions(3)
    here.page.reload()
    here.regions(3)  # unsaved work is back
    context.set_offline(True)
    here.press("Enter")
    until(here.page, "/not saved yet/.test(document.getElementById('said').textContent)")
    assert here.hub.label_cell(here.cell).counts.get("labelled", 0) == 0
    context.set_offline(False)
    until(here.page, "document.querySelectorAll('#canvas .region').length === 4")  # sent, and the next one is open
    (task,) = here.hub.label_tasks(here.cell, state="labelled")
    assert len(here.hub.label_task(task.id).regions) == 3
    assert here.hub.label_stats(here.cell).pictures == 1


def test_keys_are_told_and_skipping_and_leaving_out_need_no_mouse(desk: Open) -> None:
    here = desk("keys", 3)
    here.press("?")
    here.page.wait_for_selector("#help[open]")
    assert "Split what is selected by a line" in here.page.locator("#help").inner_text()
    here.press("Escape")
    here.press("s")
    here.idle()
    until(here.page, "/Skipped/.test(document.getElementById('said').textContent)")
    here.press("X")
    until(here.page, "/not learnt from/.test(document.getElementById('said').textContent)")
    here.idle()
    here.page.focus("#canvas")
    here.press("Tab")
    assert here.page.locator("#regions [aria-pressed=true]").count() == 1
    here.press("g")
    here.page.wait_for_selector("#nothing:not([hidden])")
    assert here.hub.label_cell(here.cell).counts == {"skipped": 1, "removed": 1, "open": 1}


def test_fingers_on_a_small_screen(chromium: playwright.Browser, site: Site, hub: HubClient) -> None:
    """Two fingers zoom whatever tool is chosen, one draws; buttons stand in for the keys."""
    with signed_in(chromium, site, expected=EXPECTED, size=SMALL) as page:
        here = Desk(page, site, hub, "touch")
        assert page.evaluate("document.documentElement.scrollWidth") <= SMALL[0]
        page.click("[data-tool=draw]")
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        page.locator("#canvas").scroll_into_view_if_needed()
        x, y = here.at(200, 150)
        fingers("touchStart", (x - 20, y))
        fingers("touchStart", (x - 20, y), (x + 20, y))
        for spread in (40, 60, 80):
            fingers("touchMove", (x - spread, y), (x + spread, y))
        fingers("touchEnd")
        width = page.evaluate("document.getElementById('canvas').viewBox.baseVal.width")
        assert width < WIDTH / 2, "zoomed in"
        page.click("[data-action=fit]")
        assert page.locator("#canvas .sketch").count() == 0, "the first finger left no point"
        for place in ((20, 270), (120, 270), (120, 295)):
            fingers("touchStart", here.at(*place))
            fingers("touchEnd")
        page.click("[data-action=accept]")  # closes the polygon first
        here.regions(5)
        page.click("[data-action=accept]")
        until(page, "/^Saved/.test(document.getElementById('said').textContent)")
        (task,) = hub.label_tasks("touch", state="labelled")
        assert len(hub.label_task(task.id).regions) == 5


def test_what_the_model_was_not_sure_of_is_a_click_away_and_a_ragged_box_gets_four_corners(
    chromium: playwright.Browser, site: Site, hub: HubClient
) -> None:
    hub.create_cell("offers", "", team="acme")
    ragged = rectangle(40, 40, 140, 120)
    ragged[40:120:8, 134:140] = False
    twin, far = rectangle(40, 40, 150, 130), rectangle(200, 200, 300, 280)
    found = Instances.from_masks(np.stack([ragged, twin, far]), ["box"] * 3, [0.9, 0.4, 0.3])
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    kept = Capture(frame, found, secrets.token_hex(8), 1.7e9, "sample", "offers@v1", "offers", "l", "r")
    CaptureStore(site.settings.telemetry_folder / "captures").add(kept)
    with signed_in(chromium, site, expected=EXPECTED) as page:
        here = Desk.__new__(Desk)
        here.page, here.site, here.hub, here.cell = page, site, hub, "offers"
        page.goto(site.at("/ui/label/cells/offers"))
        here.regions(1)
        here.click(250, 240)
        here.regions(2)
        here.press("Escape")
        here.click(90, 80)
        here.press("o")
        until(page, "/40 %/.test(document.querySelector('#regions [aria-pressed=true]').textContent)")
        here.press("o")
        until(page, "/90 %/.test(document.querySelector('#regions [aria-pressed=true]').textContent)")
        here.press("q")
        until(page, "document.querySelectorAll('#canvas [data-vertex]').length === 4")
        stored = here.accepted()
    assert like(stored, rectangle(40, 40, 140, 120), 0.98) == "box"
    assert like(stored, far, 1.0) == "box"
    assert len(stored) == 2


def test_the_list_of_queues_says_what_waits(desk: Open) -> None:
    here = desk("list", 2)
    here.page.goto(here.site.at("/ui/label"))
    text = here.page.locator("main").inner_text()
    assert re.search(r"list\n+2 to label", text), text
    assert "acme/list-labels" in text
