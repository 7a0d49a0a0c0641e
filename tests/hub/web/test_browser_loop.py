"""The loop's buttons in a real Chromium: offer a dataset, declare what is promoted, label in another tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.client.client import HubClient
from hub.settings import Settings
from serving.observed.captures import CaptureStore
from tests.hub.loop.test_sites import capture
from tests.hub.material import running_hub, write_base_files
from tests.hub.web.chromium import NEEDS_CHROMIUM, SMALL, Site, playwright, signed_in, until
from tests.hub.web.material import push_rectangles

pytestmark = NEEDS_CHROMIUM
EXPECTED = "status of (400|404|409)"  # what tests provoke
CELL, SECRET = "dock-7", "secret-token-zebracrossing"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hub")
    base = write_base_files(folder / "base")
    settings = Settings.load({}, data=folder / "data", base_source=base, grow=0, webhook_allow="127.0.0.0/8")
    settings = settings.on_free_ports()
    with running_hub(settings, folder / "hub.log"):
        with HubClient.of(settings) as client:
            client.create_cell(CELL, team="acme")
            push_rectangles(client, "acme/boxes", folder / "boxes")
        store = CaptureStore(settings.telemetry_folder / "captures")
        for number in range(3):
            store.add(capture(number))
        yield Site(settings, settings.client_token())


@pytest.fixture
def page(chromium: playwright.Browser, hub: Site) -> Iterator[playwright.Page]:
    with signed_in(chromium, hub, expected=EXPECTED) as page:
        yield page


def fits(page: playwright.Page) -> bool:
    """Whether nothing is cut off at the side of a small screen."""
    page.set_viewport_size({"width": SMALL[0], "height": SMALL[1]})
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_a_dataset_is_offered_by_its_button_and_taken_back(page: playwright.Page, hub: Site, tmp_path: Path) -> None:
    page.goto(hub.at("/ui/datasets/acme/boxes"))
    page.click("text=Contribution")
    page.fill("#note", "from the summer's project")
    page.screenshot(path=tmp_path / "offer-before.png", full_page=True)
    page.click("button:text-is('Offer this dataset')")
    page.wait_for_selector("button:text-is('Withdraw')")
    said = page.inner_text("main")
    assert "offered" in said and "images of revision" in said and "from the summer's project" in said
    page.screenshot(path=tmp_path / "offer-after.png", full_page=True)
    assert fits(page)
    page.click("button:text-is('Withdraw')")
    page.wait_for_selector("button:text-is('Offer this dataset')")
    assert "withdrawn" in page.inner_text("main")


def test_what_is_promoted_is_declared_on_the_timeline(page: playwright.Page, hub: Site, tmp_path: Path) -> None:
    page.goto(hub.at(f"/ui/cells/{CELL}/timeline"))
    page.click("summary:has-text('Policy')")
    page.select_option("#promote", "evidence")
    page.select_option("#until", "beta")
    page.fill("#policy-note", "as far as beta")
    page.screenshot(path=tmp_path / "policy.png", full_page=True)
    page.click("text=Set the policy")
    page.wait_for_selector("text=The refresh policy is version 1")
    assert "promote: ask → evidence" in page.inner_text("main")
    with HubClient.of(hub.settings) as client:
        policy = client.refresh(CELL).policy.policy
    assert (policy.promote, policy.promote_until) == ("evidence", "beta")
    page.screenshot(path=tmp_path / "timeline.png", full_page=True)


def test_pictures_go_to_another_tool_and_come_back(page: playwright.Page, hub: Site, tmp_path: Path) -> None:
    page.goto(hub.at("/ui/label"))
    with HubClient.of(hub.settings) as client:
        from hub.schemas.labels import FillIn

        client.fill_labels(CELL, FillIn(limit=10))
    page.click("text=Label in Label Studio, CVAT or FiftyOne")
    page.fill("#url", "http://127.0.0.1:9")
    page.fill("#token", SECRET)
    page.click("button:text-is('Push')")
    until(page, "document.querySelector('[role=status] .failed') !== null")
    said = page.inner_text("main")
    assert "does not answer" in said and "Nothing is lost" in said and SECRET not in page.content()
    page.screenshot(path=tmp_path / "tool-failed.png", full_page=True)
    page.select_option("#tool", "fiftyone")
    page.click("button:text-is('Push')")
    until(page, "document.querySelector('[role=status] .finished') !== null")
    assert "3 pictures are at" in page.inner_text("main")
    folder = hub.settings.data / "handoffs" / CELL
    samples = json.loads((folder / "samples.json").read_text())
    for one in samples["samples"][:2]:
        one["tags"] = [*one.get("tags", []), "accepted"]
    (folder / "samples.json").write_text(json.dumps(samples))
    page.select_option("#tool", "fiftyone")
    page.click("button:text-is('Pull')")
    until(page, "document.querySelector('main').innerText.includes('2 new answers')")
    assert "labelled and taken back" in page.inner_text("main")
    page.screenshot(path=tmp_path / "tool-pulled.png", full_page=True)
    assert fits(page)
    page.screenshot(path=tmp_path / "tool-small.png", full_page=True)
