"""`transformers` and `peft` load from the hub what they load from a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub.settings import Settings
from tests.hub.material import write_tiny_base

# In a process of its own: these libraries read the hub's address when they are imported.
SCRIPT = """
import sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, EomtForUniversalSegmentation

torch.set_num_threads(1)
folder, base, adapter, family = sys.argv[1:]
if family == "eomt":  # the library's own, nothing of ours
    Model = EomtForUniversalSegmentation
else:
    from serving.families.load import FAMILIES
    Model = FAMILIES[family]
there, here = Model.from_pretrained(base, revision="v1"), Model.from_pretrained(folder)
assert AutoConfig.from_pretrained(base).model_type == family
assert all(torch.equal(a, b) for a, b in zip(there.state_dict().values(), here.state_dict().values(), strict=True))
linear = [name for name, module in here.named_modules() if isinstance(module, torch.nn.Linear)][:3]
made = get_peft_model(here, LoraConfig(r=2, target_modules=linear))
for name, parameter in made.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter)
made.push_to_hub(adapter, private=True)
loaded = PeftModel.from_pretrained(there, adapter).state_dict()
lora = {name: value for name, value in made.state_dict().items() if "lora" in name}
assert lora and all(torch.equal(loaded[name], value) for name, value in lora.items())
print("equal", len(lora))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("without_xet", "family"), [("1", "eomt"), ("0", "parcelseg")])
def test_a_base_and_an_adapter(ann: HfApi, live_hub: Settings, tmp_path: Path, without_xet: str, family: str) -> None:
    base = write_tiny_base(tmp_path / "base", family=family)
    name = f"ann/base-{without_xet}"
    ann.create_repo(name, private=True)
    ann.upload_folder(repo_id=name, folder_path=base)
    ann.create_tag(name, tag="v1")
    environment = os.environ | {
        "HF_ENDPOINT": live_hub.url,
        "HF_TOKEN": str(ann.token),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": without_xet,
    }
    words = [sys.executable, "-c", SCRIPT, str(base), name, f"ann/adapter-{without_xet}", family]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.stdout.startswith("equal"), done.stderr[-2000:]
