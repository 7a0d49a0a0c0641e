"""Class names of teams, put onto the labels of a base."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from finetune.errors import DeckError

_SPARE = re.compile(r"reserved_(\d+)")

# Each line is one kind of package under the names that people give it, in the form that `_plain` makes of them.
_SYNONYMS = (
    {"box", "carton", "parcel", "package", "case", "cardboard", "cardboardbox", "corrugatedbox", "shippingbox"},
    {"polybag", "bag", "plasticbag", "polymailer", "pouch"},
    {"paddedmailer", "mailer", "envelope", "paddedenvelope", "bubblemailer", "bubbleenvelope", "jiffy", "jiffybag"},
    {"cylinder", "tube", "roll", "can", "mailingtube"},
    {"sack", "bulksack", "bulkbag"},
    {"item", "object", "product", "article", "thing", "other"},
)  # fmt: skip


# What tools call all that is no package: Pascal's and CVAT's, LabelMe's, TensorFlow's.
_BACKGROUND = frozenset({"background", "_background_", "__background__", "__ignore__", "ignored", "void", "unlabeled"})


def is_background(name: str) -> bool:
    """Whether a class is a tool's word for what is no instance."""
    return name.strip().lower() in _BACKGROUND


def map_classes(
    classes: Sequence[str], base_labels: Sequence[str], *, shown: Collection[str], chosen: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """(class to base label, classes left out). Classes share a label only where `chosen` says so.

    `chosen` comes first, then equal names (case, punctuation and plural aside), then synonyms in the order of
    `classes`. A class that the base does not know takes the next spare label if it is among `shown`, the classes with
    an instance to learn from, and is left out otherwise. A class among `shown` that is called like a label of the base
    joins those that `chosen` puts there; a synonym does not: what a team tells apart is merged by the team alone.

    Raises DeckError if `chosen` names unknown classes or labels, or the spare labels run out.
    """
    spare = sorted(
        (label for label in base_labels if _SPARE.fullmatch(label)), key=lambda label: int(label.split("_")[1])
    )
    known = [label for label in base_labels if label not in set(spare)]
    mapped = _checked(chosen, classes, base_labels)
    # Labels that a class of their own name may still join.
    shared = {label for label in mapped.values() if not any(_plain(n) == _plain(label) for n in mapped)}
    for same, joins in ((lambda a, b: a == b, True), (_synonymous, False)):
        for name in classes:
            used = set(mapped.values()) - (shared if joins and name in shown else set())
            free = [label for label in known if label not in used]
            match = next((label for label in free if same(_plain(name), _plain(label))), None)
            if name not in mapped and match is not None:
                mapped[name] = match
                shared.discard(match)
    free = [label for label in spare if label not in mapped.values()]
    unknown = [name for name in classes if name not in mapped]
    new = [name for name in unknown if name in shown]
    if len(new) > len(free):
        raise DeckError(
            f"{len(new)} classes are new to the base ({', '.join(new)}) and it has {len(free)} spare labels; "
            "merge some, or map them onto its labels with a class map"
        )
    mapped |= dict(zip(new, free, strict=False))
    left_out = tuple(name for name in unknown if name not in shown)
    return {name: mapped[name] for name in classes if name in mapped}, left_out


def _checked(chosen: Mapping[str, str], classes: Sequence[str], base_labels: Sequence[str]) -> dict[str, str]:
    for name, label in chosen.items():
        if name not in classes:
            raise DeckError(f"the class map names {name!r}, the dataset has {', '.join(classes)}")
        if label not in base_labels:
            raise DeckError(f"the class map names {label!r}, the base has {', '.join(base_labels)}")
    return dict(chosen)


def answered_names(class_map: Mapping[str, str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Each class to the name that answers bear: its own, or where several have one label that of the first of them, by
    `chosen` where it names several for the label, else by `class_map`."""
    named = Counter((chosen or {}).values())
    first: dict[str, str] = {}
    for name, label in (chosen or {}).items():
        if named[label] > 1:
            first.setdefault(label, name)
    return {name: first.setdefault(label, name) for name, label in class_map.items()}


def _plain(name: str) -> str:
    """Letters and digits in lower case, the last word in singular: "Poly-Bags" is "polybag"."""
    words = re.findall(r"\w+", name.casefold().replace("_", " "))
    if not words:
        return name
    last = words[-1]
    if re.search(r"(x|ch|sh|ss)es$", last):
        last = last[:-2]
    elif len(last) > 4 and last.endswith("ies"):
        last = last[:-3] + "y"
    elif len(last) > 3 and last.endswith("s") and not last.endswith("ss"):
        last = last[:-1]
    return "".join([*words[:-1], last])


def _synonymous(first: str, second: str) -> bool:
    return any(first in names and second in names for names in _SYNONYMS)
