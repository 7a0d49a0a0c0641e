"""The pages over a real hub: what they show, to whom, and that nothing that people wrote runs in a browser."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.schemas.core import FinetuneIn
from hub.services import Services
from hub.web.guards import REPORT_POLICY
from registry.types import FileEntry, RepoId
from tests.hub.web.material import EVIL, Browser, finish_job, made_variant, push_rectangles, work_off

ACME = "acme/dock"


@pytest.fixture
def pushed(client: HubClient, tmp_path: Path) -> str:
    """The commit of `acme/dock`, eight images of three boxes."""
    return push_rectangles(client, ACME, tmp_path / "data")


def test_an_empty_hub_says_how_to_begin(browser: Browser) -> None:
    assert "parcelhub dataset push" in browser.get("/ui/")
    assert "No dataset yet" in browser.get("/ui/datasets")
    assert "No cell yet" in browser.get("/ui/cells")
    assert "No job yet" in browser.get("/ui/jobs")
    assert "Upload one first" in browser.get("/ui/finetune")
    assert "There is no variant yet" in browser.get("/ui/compare")
    assert "No outcome yet" in browser.get("/ui/outcomes")


def test_a_cell_is_told_what_there_is_in_it(browser: Browser, client: HubClient) -> None:
    assert 'name="class-box" value="1">' in browser.get("/ui/cells")
    browser.post("/ui/cells", {"name": "dock-9", "description": "north", "class-box": "1"})
    assert client.cells()[0].classes == ["box"]
    assert 'name="class-box" value="1" checked' in browser.get("/ui/cells/dock-9")
    browser.post("/ui/cells/dock-9/classes", {})
    assert client.cells()[0].classes == []
    assert 'name="class-box" value="1">' in browser.get("/ui/cells/dock-9")


NOT_THERE = (
    ("/ui/nothing", 404),
    ("/ui/cells/nope", 404),
    ("/ui/jobs/nope", 404),
    ("/ui/models/nope/v1", 404),
    ("/ui/models/nope/v1/report", 404),
    ("/ui/datasets/nope/nope", 404),
    ("/ui/datasets/-/nope", 400),
    ("/ui/datasets/nope/nope/images/x", 404),
    ("/ui/compare?a=nope@v1&b=base", 404),
    ("/ui/static/secret", 404),
)


def test_what_is_not_there_is_a_page(browser: Browser) -> None:
    for address, status in NOT_THERE:
        answer = browser.get(address, status)
        assert "Go to the overview" in answer or address.startswith("/ui/static"), address


def test_a_dataset_is_looked_at(browser: Browser, pushed: str) -> None:
    assert ACME in browser.get("/ui/datasets") and ACME not in browser.get("/ui/datasets?search=zzz")
    page = browser.get(f"/ui/datasets/{ACME}")
    assert "8 images, 24 labelled packages" in page and page.count('class="tile"') == 8
    assert browser.get(f"/ui/datasets/{ACME}?split=train").count('class="tile"') == 8
    root = f"/ui/datasets/{ACME}/at/{pushed}"
    assert browser.get(f"{root}/wall/1").count('class="tile"') == 8
    assert browser.get(f"{root}/wall/2").count('class="tile"') == 0
    for kind in ("thumb", "full"):
        for _ in range(2):  # made, and kept
            answer = browser.client.get(f"{root}/{kind}/0")
            assert answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
            assert Image.open(io.BytesIO(answer.content)).size == (128, 96)
    drawn = browser.client.get(f"{root}/masks/0")
    assert drawn.headers["content-type"].startswith("image/svg+xml") and drawn.text.count("<path") == 3
    assert 'viewBox="0 0 128 96"' in drawn.text
    one = browser.get(f"/ui/datasets/{ACME}/images/3")
    assert "3 labelled packages" in one and 'id="before"' in one and 'id="after"' in one
    assert 'id="before"' not in browser.get(f"/ui/datasets/{ACME}/images/0")
    browser.get(f"/ui/datasets/{ACME}/images/8", 404)
    browser.get(f"{root}/thumb/8", 404)
    browser.get(f"{root}/other/0", 404)


def test_private_datasets_show_to_their_team_alone(
    stranger: Browser, services: Services, client: HubClient, tmp_path: Path
) -> None:
    commit = push_rectangles(client, "north/secret", tmp_path / "data")
    services.registry.directory.configure(RepoId("dataset", "north", "secret"), private=True)
    name = made_variant(services, tmp_path / "v", cell="dock-7", dataset="north/secret", mark="one")
    cell, _, version = name.partition("@")
    services.users.put("ada", teams=["north"])
    services.users.put("eve", teams=["south"])
    scopes = {Scope.READ, Scope.FINETUNE, Scope.PROMOTE}
    stranger.sign_in(services.tokens.issue("eve", scopes, user="eve"))
    assert "north/secret" not in stranger.get("/ui/datasets")
    secret = ("", "/images/0", "/check", f"/at/{commit}/thumb/0", f"/at/{commit}/masks/0", f"/at/{commit}/wall/1")
    for rest in secret:
        stranger.get(f"/ui/datasets/north/secret{rest}", 404)
    stranger.get(f"/ui/models/{cell}/{version}/report", 404)
    stranger.get(f"/ui/models/{cell}/{version}", 404)
    stranger.get(f"/ui/compare?a=base&b={name}", 404)
    job = services.variants.get(cell, version).job
    stranger.get(f"/ui/jobs/{job}", 404)
    stranger.get(f"/ui/jobs/{job}/log", 404)
    stranger.post(f"/ui/jobs/{job}/cancel", {}, status=404)
    stranger.post("/ui/finetune", {"cell": cell, "dataset": "north/secret"}, status=404)
    stranger.post("/ui/datasets/north/secret/check", {}, status=404)
    stranger.sign_in(services.tokens.issue("ada", scopes, user="ada"))
    assert "north/secret" in stranger.get("/ui/datasets")
    for rest in secret:
        stranger.get(f"/ui/datasets/north/secret{rest}")
    assert "/thumb/" in stranger.get(f"/ui/models/{cell}/{version}")


def test_names_are_text(browser: Browser, services: Services, client: HubClient, tmp_path: Path) -> None:
    push_rectangles(client, ACME, tmp_path / "data", class_name=f"box{EVIL}")
    services.cells.create("dock-7", f"the dock {EVIL}")
    name = made_variant(services, tmp_path / "v", cell="dock-7", dataset=ACME, mark=f"m{EVIL}")
    services.promotions.promote("dock-7", "v1", "fleet", actor="ada", note=EVIL)
    services.tokens.issue(f"token {EVIL}", {Scope.READ})
    job = services.variants.get("dock-7", "v1").job
    pages = [
        *("/ui/", "/ui/cells", "/ui/cells/dock-7", "/ui/models/dock-7/v1", f"/ui/compare?a=base&b={name}"),
        *("/ui/settings", f"/ui/jobs/{job}", f"/ui/datasets/{ACME}", f"/ui/datasets/{ACME}/images/0"),
        *(
            f"/ui/?notice={EVIL}",
            f"/ui/datasets?search={EVIL}",
            f"/ui/cells?search={EVIL}",
            f"/ui/finetune?cell={EVIL}",
        ),
        f"/ui/finetune?dataset={EVIL}",
    ]
    seen = 0
    for address in pages:
        text = browser.get(address)
        assert "<script>alert" not in text, address
        seen += "&lt;script&gt;alert" in text
    assert seen >= 10
    commit = services.datasets.summary(
        RepoId.parse(ACME, "dataset"), "main", services.tokens.identify(_admin(services))
    )
    masks = browser.get(f"/ui/datasets/{ACME}/at/{commit.commit}/masks/0")
    assert "<script>" not in masks and "&lt;script&gt;" in masks


def _admin(services: Services) -> str:
    return services.settings.admin_token_file.read_text().strip()


def _commit(services: Services, files: dict[str, bytes]) -> str:
    repo = RepoId("dataset", "evil", "set")
    services.store.repos.create(repo, exist_ok=True)
    entries = []
    for path, data in files.items():
        info = services.store.blobs.put_bytes(data)
        entries.append(FileEntry(path, info.sha256, info.size))
    return services.store.repos.commit(repo, entries, message="x", author="eve").id


def test_hostile_files_are_no_pictures(browser: Browser, services: Services) -> None:
    """Whatever a dataset's files are, a page gets a JPEG made here, or a refusal."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    good = io.BytesIO()
    Image.new("RGB", (8, 6)).save(good, "PNG")
    marks = [
        {"counts": "é", "size": [6, 8]},
        {"counts": "0" * 999, "size": [6, 8]},
        {"counts": [999_999_999], "size": [6, 8]},
        {"counts": [-5, 60], "size": [6, 8]},
        {"size": [6, 8]},
        {"counts": "0", "size": [99_999, 99_999]},
        [[1, 2]],
        [["a"] * 6],
        [[1e308] * 6],
        "text",
        None,
        [[0, 0, 4, 0, 4, 4]],
    ]
    annotations = {
        "images": [{"id": 1, "file_name": "images/good.png", "width": 8, "height": 6}],
        "annotations": [{"id": k, "image_id": 1, "category_id": 1, "segmentation": m} for k, m in enumerate(marks)],
        "categories": [{"id": 1, "name": "box"}],
    }
    commit = _commit(
        services,
        {
            "images/bomb.png": bomb.getvalue(),
            "images/page.jpg": b"<html><script>alert(1)</script>",
            "images/short.png": good.getvalue()[:40],
        },
    )
    root = f"/ui/datasets/evil/set/at/{commit}"
    for pos in range(3):
        answer = browser.client.get(f"{root}/full/{pos}")
        assert answer.status_code == 422 and "<script>alert" not in answer.text
    files = {"annotations.json": json.dumps(annotations).encode(), "images/good.png": good.getvalue()}
    commit = _commit(services, files)
    drawn = browser.client.get(f"/ui/datasets/evil/set/at/{commit}/masks/0")
    assert drawn.status_code == 200 and drawn.text.count("<path") <= 2
    assert "nan" not in drawn.text and "inf" not in drawn.text
    assert "sandbox" in drawn.headers["content-security-policy"]
    commit = _commit(services, {"annotations.json": b"{not json", "images/good.png": good.getvalue()})
    assert "annotations.json" in browser.get(f"/ui/datasets/evil/set?revision={commit}")
    assert browser.client.get(f"/ui/datasets/evil/set/at/{commit}/masks/0").text.count("<path") == 0


def test_two_clicks_make_a_job_and_the_page_follows_it(
    browser: Browser, services: Services, pushed: str, tmp_path: Path
) -> None:
    page = browser.get(f"/ui/datasets/{ACME}")
    link = re.search(r'href="(/ui/finetune\?dataset=[^"]+)"', page)
    assert link
    form = browser.get(link[1])
    assert f"<option selected>{ACME}</option>" in form and 'name="new_cell" value="dock"' in form
    answer = browser.post("/ui/finetune", {"dataset": ACME, "new_cell": "dock", "minutes": "0.5"})
    address = answer.headers["location"]
    job = services.jobs.get(address.rpartition("/")[2])
    assert (job.state, job.spec.cell, job.spec.dataset_commit, job.spec.max_seconds) == ("queued", "dock", pushed, 30.0)
    again = browser.post("/ui/finetune", {"dataset": ACME, "cell": "dock", "minutes": "0.5"})
    assert again.headers["location"] == address  # the same request is the same job
    page = browser.get(address)
    assert "Waiting for a free worker" in page and "Cancel" in page
    assert services.audit.page(limit=5, action="start_finetune")
    name = finish_job(services, job, tmp_path / "v", "one")
    page = browser.get(address)
    assert name in page and "See the variant" in page and "<meta http-equiv" not in page
    events = browser.get(f"{address}/events")
    assert "event: progress" in events and events.rstrip().endswith("data: finished")
    assert browser.get(f"{address}/log") == ""


WRONG_FORMS: tuple[tuple[dict[str, str], str], ...] = (
    ({"dataset": ACME, "new_cell": "No Spaces"}, "lower-case letters"),
    ({"dataset": ACME, "new_cell": ""}, "lower-case letters"),
    ({"dataset": "", "new_cell": "dock"}, "Choose a dataset"),
    ({"dataset": ACME, "new_cell": "dock", "minutes": "soon"}, "could not convert"),
    ({"dataset": ACME, "new_cell": "dock", "minutes": "0"}, "between 1 and 1,440"),
    ({"dataset": ACME, "new_cell": "dock", "images": "1"}, "between 2 and 100,000"),
)


def test_a_form_that_is_wrong_says_why(browser: Browser, services: Services, pushed: str) -> None:
    for fields, sentence in WRONG_FORMS:
        assert sentence in browser.post("/ui/finetune", fields, status=400).text, fields
        assert services.jobs.all() == [] and services.cells.all() == [], fields


def test_a_job_is_cancelled_and_tried_again(browser: Browser, services: Services, pushed: str) -> None:
    services.cells.create("dock-7", "")
    job = services.finetunes.request(FinetuneIn(cell="dock-7", dataset=ACME), "admin")
    browser.post(f"/ui/jobs/{job.id}/cancel", {})
    assert services.jobs.get(job.id).state == "cancelled"
    assert "Try again" in browser.get(f"/ui/jobs/{job.id}")
    browser.post(f"/ui/jobs/{job.id}/cancel", {}, status=409)
    browser.post(f"/ui/jobs/{job.id}/retry", {})
    assert services.jobs.get(job.id).state == "queued"


def test_a_variant_has_its_report_its_lineage_and_its_decisions(
    browser: Browser, services: Services, pushed: str, tmp_path: Path
) -> None:
    made_variant(services, tmp_path / "v1", cell="dock-7", dataset=ACME, mark="one")
    made_variant(services, tmp_path / "v2", cell="dock-7", dataset=ACME, mark="two")
    page = browser.get("/ui/models/dock-7/v2")
    for text in ("The variant two finds more", "Before and after", "Where it fails", "What to label next"):
        assert text in page
    lineage = page.partition('class="lineage"')[2].partition("</svg>")[0]
    assert all(kind in lineage for kind in (">dataset<", ">deck<", ">base<", ">variant<"))
    assert f"/ui/datasets/{ACME}?revision={pushed}" in lineage
    assert f"/ui/datasets/{ACME}/at/{pushed}/thumb/0" in page
    report = browser.client.get("/ui/models/dock-7/v2/report")
    assert report.headers["content-security-policy"] == REPORT_POLICY and "sandbox" in REPORT_POLICY
    assert report.headers["x-content-type-options"] == "nosniff"
    answer = browser.post("/ui/models/dock-7/v2/promote", {"stage": "fleet", "note": "good on aisle 7"})
    assert services.serving_folder.read()["cells"]["dock-7"]["fleet"] == "dock-7@v2"
    page = browser.get(answer.headers["location"])
    assert "Robots are served by it now" in page and "good on aisle 7" in page and "evidence" in page
    refused = browser.post("/ui/models/dock-7/v2/promote", {"stage": "fleet"}, status=409).text
    assert "it is at fleet already" in refused
    browser.post("/ui/models/dock-7/v2/promote", {"stage": "archived"}, status=400)
    cell = browser.get("/ui/cells/dock-7")
    assert "Roll back" in cell and "dock-7@v2" in cell
    browser.post("/ui/cells/dock-7/rollback", {"stage": "fleet", "note": ""})
    assert services.serving_folder.read()["cells"]["dock-7"]["fleet"] is None
    browser.post("/ui/cells/dock-7/rollback", {"stage": "fleet"}, status=409)


def test_another_teams_cell_is_not_moved(stranger: Browser, services: Services, pushed: str, tmp_path: Path) -> None:
    services.cells.create("dock-7", "", team="north")
    made_variant(services, tmp_path / "v", cell="dock-7", dataset=ACME, mark="one")
    services.users.put("eve", teams=["south"])
    stranger.sign_in(services.tokens.issue("eve", {Scope.PROMOTE, Scope.FINETUNE}, user="eve"))
    assert "belongs to another team" in stranger.get("/ui/models/dock-7/v1")
    stranger.post("/ui/models/dock-7/v1/promote", {"stage": "fleet"}, status=403)
    stranger.post("/ui/cells/dock-7/rollback", {"stage": "fleet"}, status=403)
    stranger.post("/ui/finetune", {"cell": "dock-7", "dataset": ACME}, status=403)


def test_two_variants_are_laid_side_by_side(browser: Browser, services: Services, pushed: str, tmp_path: Path) -> None:
    one = made_variant(services, tmp_path / "v1", cell="dock-7", dataset=ACME, mark="one")
    two = made_variant(services, tmp_path / "v2", cell="dock-7", dataset=ACME, mark="two")
    for pair in (f"a={one}&b={two}", f"a=base&b={two}", f"a={one}&b=base"):
        page = browser.get(f"/ui/compare?{pair}")
        assert "1 of 3" in page and 'id="where"' in page and f"/at/{pushed}/full/" in page
        assert 'id="where"' not in browser.get(f"/ui/compare?{pair}&way=side&image=2")
    assert "Choose two" in browser.get("/ui/compare")
    assert "Choose two different ones" in browser.get("/ui/compare?a=base&b=base")
    browser.get(f"/ui/compare?a={one}&b={two}&image=999999999999999999999")


def test_a_variant_whose_report_is_damaged_still_has_a_page(
    browser: Browser, services: Services, pushed: str, tmp_path: Path
) -> None:
    made_variant(services, tmp_path / "v1", cell="dock-7", dataset=ACME, mark="one")
    repo = RepoId("model", "cells", "dock-7")
    info = services.store.blobs.put_bytes(b'{"verdict": 7}')
    head = services.store.repos.commit(
        repo, [FileEntry("report.json", info.sha256, info.size)], message="x", author="eve"
    )
    assert browser.client.app.state.web.reports.report("dock-7", head.id) is None
    assert browser.client.app.state.web.reports.report("dock-7", "main") is None


def test_the_check_runs_in_its_own_process_and_its_findings_have_pictures(
    browser: Browser, services: Services, client: HubClient, tmp_path: Path
) -> None:
    push_rectangles(client, ACME, tmp_path / "data", images=6)
    assert "Not checked yet" in browser.get(f"/ui/datasets/{ACME}/check")
    browser.post(f"/ui/datasets/{ACME}/check", {})
    assert "this page reloads" in browser.get(f"/ui/datasets/{ACME}/check").lower()
    work_off(browser.client)
    page = browser.get(f"/ui/datasets/{ACME}/check")
    assert "boxes, not outlines?" in page or "worth a look" in page
    assert "Looking over" not in page and "Not checked yet" not in page


def test_outcomes_show_rates_with_intervals_and_lead_on(browser: Browser, services: Services) -> None:
    telemetry = services.production.telemetry
    now = time.time()
    telemetry.add_outcomes(
        [
            {
                "request_id": f"{cell}-{number}",
                "outcome": "drop" if number < 2 else "success",
                "picked_at": now - 86_400 * (number % 2),
                "cell": cell,
                "label": EVIL if number % 2 else "carton",
                "served_by": f"{cell}@v1 on base/universal@v1",
            }
            for cell in ("dock-7", "dock-8")
            for number in range(20)
        ],
        reporter="t",
    )
    shown = browser.get("/ui/outcomes")
    assert "40 picks in 30 days, 90.0% of them a success" in shown
    assert shown.count("69.9% to 97.2%") == 2, "Wilson's interval of 18 in 20, in each row"
    assert shown.count('<svg class="plot"') == 2 and "2 drop" in shown
    assert "40 picks have no prediction on record" in shown
    assert 'href="?by=variant&amp;cell=dock-7&amp;days=30"' in shown or "cell=dock-7&amp;by=variant" in shown
    one = browser.get("/ui/outcomes?by=class&cell=dock-7&days=2")
    assert "20 picks in 2 days" in one and "carton" in one
    assert EVIL not in one and "&lt;script&gt;" in one
    assert "No picks like these" in browser.get("/ui/outcomes?variant=other@v1")
    for odd in ("by=shoe", "days=x", "days=-4", "by=day", f"cell={EVIL}", "cell=" + "x" * 5000):
        assert EVIL not in browser.get(f"/ui/outcomes?{odd}")
    assert "/ui/outcomes?by=variant" in browser.get("/ui/cells/" + made_cell(services))


def made_cell(services: Services) -> str:
    services.cells.create("dock-7", "")
    return "dock-7"
