"""The line of trainings that a base comes from, as a table of its card: written, and read back by its next base's card.

Cards of bases from before had one quotation inside the other; those are read as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

SECTION: Final = "## What it saw\n"
_HEADER: Final = (
    "| step | scenes | generator | seed | minutes | pictures | written before | environments | views | rates |"
)
_RULE: Final = "|---|---|---|---|---|---|---|---|---|---|"
_UNKNOWN: Final = "?"
_GOES_ON: Final = "The base that it went on from had seen:"
_OLD_STEP: Final = re.compile(
    r"(?P<scenes>[\d,]+) scenes of the project's own generator \(version (?P<generator>\w+), seed (?P<seed>\d+)\) in "
    r"(?P<minutes>\d+) minutes(?:, (?P<share>\d+)% of them from scenes written before \((?P<written>.*?)\))? "
    r"and nothing else(?:, (?P<pasted>\d+)% of them photographs of boxes)?.*?Environments: (?P<environments>[^.]+)\."
    r"(?: (?P<near>\d+)% of these scenes are seen from close by, (?P<grey>\d+)% have no colour\.)?"
    r" (?P<steps>[\d,]+) steps of (?P<batch>\d+) pictures\."
    r"(?: Muon at (?P<muon>\S+) for the encoder's matrices, AdamW at (?P<rate>\S+) for the rest)?"
)
_OLD_WRITTEN: Final = re.compile(
    r"(?:the (?P<used>[\d,]+) train images of )?(?P<images>\d+) generated pictures of (?P<side>\d+) x \d+ pixels"
    r".*?Tier `(?P<tier>[\w-]+)`.*?seed (?P<seed>\d+), generator version (?P<version>[\w.-]+)"
)


class TrainingStep(NamedTuple):
    """One training of a base's line: the cells of its row. Texts without `|` and without line breaks."""

    scenes: str
    generator: str
    seed: str
    minutes: str
    pictures: str
    """`2,166 x 16`: steps, and pictures of each."""
    written: str
    """Share and sources of the scenes that lay on disk; `none` where all were made in the training."""
    environments: str
    views: str
    """Shares of scenes that are seen from close by, without colour, and with photographs pasted in."""
    rates: str
    """Learning rates of Muon and AdamW."""


UNKNOWN_STEP: Final = TrainingStep(*(["not on record"] + [""] * 8))


def lineage_table(steps: list[TrainingStep]) -> str:
    """The table of a line of trainings, the newest first; `steps` in that order. Numbers count from the first known."""
    known = sum(step != UNKNOWN_STEP for step in steps)
    rows = []
    for step in steps:
        name = _UNKNOWN if step == UNKNOWN_STEP else str(known)
        known -= step != UNKNOWN_STEP
        rows.append("| " + " | ".join((name, *(_cell(text) for text in step))) + " |")
    return "\n".join((_HEADER, _RULE, *rows))


def earlier_steps(start: Path | None) -> list[TrainingStep]:
    """The line of the base in a folder, by its card's word, newest first; UNKNOWN_STEP where it does not say.

    None, for a base from scratch, has no steps.
    """
    if start is None:
        return []
    card = start / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return steps_of(text) or [UNKNOWN_STEP]


def steps_of(card: str) -> list[TrainingStep]:
    """The line that a base's card tells, newest first: its table, or quotations as cards had them before."""
    section = card.partition(SECTION)[2].partition("\n## ")[0]
    lines = section.splitlines()
    if _HEADER in lines:
        rows = []
        for line in lines[lines.index(_HEADER) + 2 :]:
            if not line.startswith("|"):
                break
            cells = [cell.strip() for cell in line.strip()[1:].removesuffix("|").split("|")]
            if cells[0] == _UNKNOWN:
                rows.append(UNKNOWN_STEP)
            elif len(cells) == len(TrainingStep._fields) + 1:
                rows.append(TrainingStep(*cells[1:]))
        return rows
    plain = " ".join(re.sub(r"^(?:> ?)+", "", line) for line in lines)
    told = " ".join(plain.split()).split(_GOES_ON)
    steps = [_old_step(text) for text in told] if told != [""] else []
    return [] if all(step == UNKNOWN_STEP for step in steps) else steps


def written_sources(share: float, cards: list[tuple[str, int, str]]) -> str:
    """The cell of scenes on disk: `share` of 0 to 1, and of each folder its name, its train images, its card's text."""
    if not cards:
        return "none"
    sources = []
    for name, used, card in cards:
        found = _OLD_WRITTEN.search(" ".join(card.split()))
        sources.append(_source(found, f"{used:,}") if found else f"{used:,} images of {name}")
    return f"{share:.0%}: " + "; ".join(sources)


def _old_step(text: str) -> TrainingStep:
    found = _OLD_STEP.search(text)
    if found is None:
        return UNKNOWN_STEP
    written = "none"
    if found["share"]:
        sources = [_source(each, each["used"] or each["images"]) for each in _OLD_WRITTEN.finditer(found["written"])]
        written = f"{found['share']}%: " + ("; ".join(sources) or "of other folders")
    near, grey = found["near"], found["grey"]
    views = f"close {near}%, grey {grey}%" if near else "as they come"
    return TrainingStep(
        scenes=found["scenes"],
        generator=found["generator"],
        seed=found["seed"],
        minutes=found["minutes"],
        pictures=f"{found['steps']} x {found['batch']}",
        written=written,
        environments=found["environments"],
        views=f"{views}, pasted {found['pasted']}%" if found["pasted"] else views,
        rates=f"Muon {found['muon']}, AdamW {found['rate']}" if found["muon"] else "",
    )


def _source(found: re.Match[str], used: str) -> str:
    return (
        f"{used} of {found['images']} `{found['tier']}` pictures of {found['side']} pixels, seed {found['seed']}, "
        f"generator {found['version']}"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
