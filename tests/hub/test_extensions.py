"""A package of somebody else's brings one of each: nothing of it is there until an operator names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving import extensions
from serving.errors import ExtensionError

ROOT = Path(__file__).parents[2]
MODULES = ("corners", "weighing", "crowded", "tiny_rcnn", "notes")
SCRIPT = """
import json, sys, tempfile
from pathlib import Path

from litestar.testing import TestClient

from finetune.datasets import FORMATS, export_dataset, read_dataset
from finetune.models.model import CONFIGS, Architecture, load_base, new_base, save_base
from finetune.training.learner import learner_for
from hub.app import create_app
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.jobs.kinds import job_kinds
from hub.settings import Settings
from serving.families.load import FAMILIES
from serving.instances import Instances
from serving.observed.captures import CapturePolicy
from serving.observed.selectors import Answered, selectors
from tests.hub.conftest import SharedTransport
from tests.hub.material import write_base_files, write_rectangles
from tests.hub.web.material import Browser, push_rectangles, work_off

folder = Path(sys.argv[1])
found = {
    "formats": "corners" in FORMATS,
    "kinds": "weighing" in job_kinds(),
    "selectors": "crowded" in selectors(),
    "families": "tiny_rcnn" in FAMILIES and "tiny_rcnn" in CONFIGS,
}
settings = Settings.load({}, data=folder / "data", base_source=write_base_files(folder / "base"))
with TestClient(create_app(settings)) as raw:
    client = HubClient("http://testserver.local", settings.client_token(), transport=SharedTransport(raw._transport))
    client.create_cell("dock-7")
    push_rectangles(client, "acme/dock", folder / "pushed", images=4)
    found["routes"] = raw.get("/api/v1/cells/dock-7/notes").status_code != 404
    try:
        job = client.ask_for_job("weighing", dataset="acme/dock")
    except HubAnswerError as error:
        found["refused"] = str(error)
    else:
        (done,) = work_off(raw)
        browser = Browser(raw)
        browser.sign_in(settings.client_token())
        shown = browser.get(f"/ui/jobs/{job.id}")
        found["weighed"] = [done.state, done.spec.kind, done.metrics["files"], "Weighing of acme/dock" in shown]
        notes = client.of_resource("notes")
        notes.add("dock-7", "the lamp was changed")
        found["notes"] = [[one.text, one.author] for one in notes.all("dock-7")]
        found["documented"] = "/api/v1/cells/{cell}/notes" in raw.app.openapi_schema.to_schema()["paths"]
if found["formats"]:
    lost = export_dataset(read_dataset(write_rectangles(folder / "yolo", images=3)), folder / "corners", "corners")
    back = read_dataset(folder / "corners")
    found["format"] = [back.format, len(back.samples), sum(len(one.masks) for one in back.samples), len(lost)]
    many = Instances.from_masks(__import__("numpy").ones((30, 4, 4), bool), ("box",) * 30, [0.9] * 30)
    policy = CapturePolicy(share=0.0, selectors=("crowded", "low_score"))
    found["chosen"] = [policy.choose(Answered("r", 0.9, many)), policy.choose(Answered("r", 0.9)),
                       policy.choose(Answered("r", 0.1))]
    model = new_base(Architecture(family="tiny_rcnn", image_size=64, queries=10), ["box"])
    save_base(model, folder / "tiny", card="# tiny")
    again = load_base(folder / "tiny")
    found["family"] = [type(again).__name__, type(learner_for(again, scratch=True)).__name__]
print(json.dumps(found))
"""


def brought(folder: Path, named: str) -> dict[str, object]:
    """What a process of ours has, that an operator started with this setting."""
    package = folder / "site" / "extension"
    shutil.copytree(ROOT / "examples" / "extension", package, ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(ROOT), str(package.parent)])
    environment = {**os.environ, "PYTHONPATH": path, extensions.VARIABLE: named, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_one_of_each_works(tmp_path: Path) -> None:
    found = brought(tmp_path, ",".join(f"extension.{name}" for name in MODULES))
    assert all(found[name] for name in ("formats", "kinds", "selectors", "families", "routes", "documented"))
    assert found["weighed"] == ["finished", "weighing", 6, True]
    assert found["notes"] == [["the lamp was changed", "admin"]]
    assert found["format"] == ["corners", 3, 9, 1]
    assert found["chosen"] == ["crowded", None, "low_score"]
    assert found["family"] == ["TinyRcnn", "RegionLearner"]


@pytest.mark.slow
def test_what_nobody_named_is_not_there(tmp_path: Path) -> None:
    """The same package lies on the path, and one of its modules is named: the others are not loaded with it."""
    found = brought(tmp_path, "extension.crowded")
    assert [name for name in ("formats", "kinds", "selectors", "families", "routes") if found[name]] == ["selectors"]
    assert "there is no kind of job 'weighing'" in str(found["refused"])


@pytest.mark.parametrize("text", ["../x", "a b", "x;y", "os.path:join", "ü.x"])
def test_what_is_no_module_name_is_refused(text: str) -> None:
    with pytest.raises(ExtensionError, match="is no name of a Python module"):
        extensions.load(text)


def test_a_module_that_cannot_be_imported_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seam_broken.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):  # it is tried again, and told again
        with pytest.raises(ExtensionError, match=r"seam_broken cannot be imported \(RuntimeError: no licence\)"):
            extensions.load("seam_broken")
    with pytest.raises(ExtensionError, match="seam_not_there"):
        extensions.load("seam_not_there")
