"""Small exports in every format, and ways to damage one as transfers, scripts and hands do."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune.datasets import FORMATS, export_dataset, read_dataset
from tests.finetune.exports import BOX, FAR, flat, row
from tests.finetune.folders import write_image, write_text

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    7,
    2**31,
    2**63,
    10**30,
    10**400,
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "1",
    "nan",
    "../../../etc/hostname",
    "/etc/hostname",
    "a\0b",
    "\ud800",
    "é" * 300,
    "x" * 5000,
    "images",
    [],
    {},
    [[]],
    [None],
    {"": None},
    [[[[1]]]],
)
WORDS = (
    "",
    "-1",
    "0",
    "nan",
    "inf",
    "1e309",
    "9" * 40,
    "9" * 5000,
    "../x",
    "/",
    ":",
    "\0",
    "é" * 50,
    "[",
    "{}",
    "*x",
    "&a [*a]",
    "!!python/object:os.system {}",
    "<x/>",
    "&#0;",
    "&x;",
)


def originals(folder: Path) -> list[Path]:
    """One folder per format that is written, and some as other tools lay them out."""
    source = folder / "source"
    images: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    for number, split in enumerate(("train", "valid", "test"), 1):
        write_image(source / f"images/{split}/{number}.jpg", seed=number)
        images.append({"id": number, "file_name": f"{split}/{number}.jpg", "split": split})
        for label, ring in ((1, BOX), (2, FAR)):
            extra = {"attributes": {"damaged": True, "weight": 2.5}}
            listed.append(
                {"id": len(listed) + 1, "image_id": number, "category_id": label, "segmentation": [flat(ring)]} | extra
            )
    listed.append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]})
    kinds = [{"id": 1, "name": "box"}, {"id": 2, "name": "bag"}]
    write_text(source / "a.json", json.dumps({"images": images, "categories": kinds, "annotations": listed}))
    dataset = read_dataset(source)
    made = [source]
    for name in FORMATS:
        export_dataset(dataset, folder / name, name)
        made.append(folder / name)
    darknet = folder / "darknet"
    write_image(darknet / "obj_train_data/a.jpg")
    write_text(darknet / "obj_train_data/a.txt", row(BOX))
    write_text(darknet / "obj.names", "box\n")
    write_text(darknet / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    write_text(darknet / "train.txt", "data/obj_train_data/a.jpg\n")
    return [*made, darknet]


def damage(original: Path, folder: Path, seed: int) -> Path:
    """A copy of `original` in `folder` of which one to three things are wrong."""
    chance = random.Random(seed)
    shutil.copytree(original, folder)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        notes = [p for p in files if p.suffix not in (".jpg", ".png")]
        path = chance.choice(notes if notes and chance.random() < 0.8 else files)
        ways: list[Callable[[Path, random.Random], None]] = [_bytes, _bytes, _layout]
        if path.suffix == ".json":
            ways += [_json] * 6
        elif path in notes:
            ways += [_words] * 4
        chance.choice(ways)(path, chance)
    return folder


def _bytes(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randint(1, 8)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = chance.randbytes(chance.randint(1, 20))
        case 3:
            del data[at : at + chance.randint(1, 30)]
        case 4:
            data[at:at] = data[at : at + 200] * chance.randint(1, 5)
        case _:
            data[at:at] = chance.choice((b"[", b'{"a":', b"<a>", b"- ")) * chance.choice((3, 100, 30_000))
    path.write_bytes(data)


def _layout(path: Path, chance: random.Random) -> None:
    match chance.randrange(5):
        case 0:
            path.unlink()
        case 1:
            path.write_bytes(b"")
        case 2:
            path.rename(path.with_name(path.name.upper()))
        case 3:
            path.rename(path.with_name(f"x{chance.randrange(9)}{path.suffix}"))
        case _:
            shutil.copy(path, path.with_name(f"copy_{path.name}"))


def _json(path: Path, chance: random.Random) -> None:
    try:
        document = json.loads(path.read_text())
    except (ValueError, RecursionError):  # it is damaged already
        return
    places: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        node = stack.pop()
        entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in entries:
            places.append((node, key))
            stack.append(value)
    # What occurs a thousand times is not the only thing to damage.
    kinds = sorted({str(key) for _, key in places})
    kind = chance.choice(kinds) if kinds else ""
    chosen = [place for place in places if str(place[1]) == kind]
    for node, key in chosen if chance.random() < 0.2 else [chance.choice(chosen)] if chosen else []:
        if isinstance(node, dict) and chance.random() < 0.2:
            node.pop(key, None)
        else:
            node[key] = chance.choice(ODD)
    path.write_text(json.dumps(document), errors="surrogatepass")


_VALUE = re.compile(r"\"[^\"]*\"|[^\s<>=\"',:;]+")


def _words(path: Path, chance: random.Random) -> None:
    text = path.read_text(errors="replace")
    found = list(_VALUE.finditer(text))
    if not found:
        return
    for place in sorted(chance.sample(found, min(len(found), chance.choice((1, 1, 3)))), key=lambda m: -m.start()):
        quote = '"' if place[0].startswith('"') else ""
        text = text[: place.start()] + quote + chance.choice(WORDS) + quote + text[place.end() :]
    path.write_text(text)
