"""Decks: splits that do not leak, class maps that do not collide, JSON that is its own name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.deck import Deck, make_deck
from finetune.errors import DeckError
from tests.finetune.folders import shared_data, write_text

LABELS = ("box", "padded_mailer", "poly_bag", "cylinder", "reserved_0", "reserved_1", "reserved_10")
MASK = b"[PT1"


def frames(
    folder: Path,
    names: Sequence[str],
    *,
    splits: Sequence[str | None] | None = None,
    sequences: Sequence[str | None] | None = None,
    labels: Sequence[tuple[str, ...]] | None = None,
    classes: tuple[str, ...] = ("box",),
) -> Dataset:
    """Samples whose files hold their own names: decks never look at pixels."""
    samples = tuple(
        Sample(
            write_text(folder / name, name),
            40,
            30,
            labels[k] if labels else ("box",),
            (MASK,) * len(labels[k] if labels else ("box",)),
            splits[k] if splits else None,
            sequences[k] if sequences else None,
        )
        for k, name in enumerate(names)
    )
    return Dataset("cell", classes, samples)


def numbered(count: int) -> list[str]:
    return [f"frame-{k}.jpg" for k in range(count)]


# --- the split --------------------------------------------------------------------------------------------------------


def test_without_a_split_the_last_quarter_of_the_frames_judges(tmp_path: Path) -> None:
    deck = make_deck(frames(tmp_path, numbered(20)[::-1]), base_labels=LABELS)
    assert deck.train == tuple(numbered(15))
    assert deck.holdout == tuple(numbered(20)[15:])


@pytest.mark.parametrize(
    ("splits", "train", "holdout"),
    [
        (["train"] * 5 + ["valid"] * 2 + ["test"], 5, 2),
        (["train"] * 5 + ["test"] * 3, 5, 3),
        ([None] * 5 + ["valid"] * 3, 5, 3),
        (["train"] * 8, 6, 2),
        (["valid"] * 8, 6, 2),
    ],
)
def test_the_datasets_own_split_is_kept(tmp_path: Path, splits: list[str | None], train: int, holdout: int) -> None:
    deck = make_deck(frames(tmp_path, numbered(8), splits=splits), base_labels=LABELS)
    assert (len(deck.train), len(deck.holdout)) == (train, holdout)


@pytest.mark.parametrize(
    ("sequences", "held"),
    [
        ("aaaabbbbccccdddd", "d"),
        ("aaaaaaaaaaaabbcc", "bc"),  # both fit into a quarter
        ("aabbbbbbbbbbbbbb", "a"),  # the latest would take nearly everything
        ("aaaaaaaabbbbbbbb", "a"),  # none fits: the smallest, and the first of equals
    ],
)
def test_sequences_stay_whole(tmp_path: Path, sequences: str, held: str) -> None:
    dataset = frames(tmp_path, numbered(16), sequences=list(sequences))
    _, holdout = make_deck(dataset, base_labels=LABELS).select(dataset)
    assert {sample.sequence for sample in holdout} == set(held)
    assert len(holdout) == sum(sequences.count(name) for name in held)


def test_equal_files_are_never_on_both_sides(tmp_path: Path) -> None:
    dataset = frames(tmp_path, numbered(16))
    for train, holdout in ((2, 13), (7, 15)):
        write_text(tmp_path / f"frame-{train}.jpg", f"frame-{holdout}.jpg")
    deck = make_deck(dataset, base_labels=LABELS)
    assert set(numbered(12)) - set(deck.train) == {"frame-2.jpg", "frame-7.jpg"}
    assert deck.holdout == tuple(numbered(16)[12:])


@pytest.mark.parametrize(("images", "train"), [(4, "1 4 7 10"), (6, "1 3 5 7 9 11"), (12, None), (99, None)])
def test_fewer_images_are_evenly_spaced_and_keep_the_holdout(tmp_path: Path, images: int, train: str | None) -> None:
    dataset = frames(tmp_path, numbered(16))
    deck = make_deck(dataset, base_labels=LABELS, images=images)
    expected = [f"frame-{k}.jpg" for k in train.split()] if train else numbered(12)
    assert deck.train == tuple(expected)
    assert deck.holdout == make_deck(dataset, base_labels=LABELS).holdout


def test_rare_classes_are_drawn_more_often(tmp_path: Path) -> None:
    labels = [("box",)] * 39 + [("box", "bag")] + [("box",)] * 10
    splits = ["train"] * 40 + ["valid"] * 10
    dataset = frames(tmp_path, numbered(50), labels=labels, splits=splits, classes=("box", "bag"))
    deck = make_deck(dataset, base_labels=LABELS)
    assert deck.weights == (1.0,) * 39 + (2.0,)


# --- the class map ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ("box", "box"),
        ("Boxes", "box"),
        ("Poly-Bags", "poly_bag"),
        ("Padded Mailer", "padded_mailer"),
        ("CARTON", "box"),
        ("parcels", "box"),
        ("envelope", "padded_mailer"),
        ("tube", "cylinder"),
        ("polybag,cartons,glass", "poly_bag,box,reserved_0"),
        ("carton,box", "reserved_0,box"),
        ("carton,parcel,package", "box,reserved_0,reserved_1"),
        ("x,y,z", "reserved_0,reserved_1,reserved_10"),
        ("reserved_1", "reserved_0"),
    ],
)
def test_names_are_mapped_onto_the_base(tmp_path: Path, classes: str, labels: str) -> None:
    names = tuple(classes.split(","))
    dataset = frames(tmp_path, numbered(8), labels=[names] * 8, classes=names)
    deck = make_deck(dataset, base_labels=LABELS)
    assert deck.class_map == dict(zip(names, labels.split(","), strict=True))
    assert deck.label_map == dict(zip(labels.split(","), names, strict=True))


def test_a_chosen_map_comes_first_and_unseen_new_classes_are_left_out(tmp_path: Path) -> None:
    dataset = frames(tmp_path, numbered(8), labels=[("a",)] * 8, classes=("a", "ghost", "cylinder", "box"))
    deck = make_deck(dataset, base_labels=LABELS, class_map={"a": "box"})
    assert deck.class_map == {"a": "box", "cylinder": "cylinder"}
    assert deck.left_out == ("ghost", "box")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"b": "box"}, "the dataset has box"),
        ({"box": "pallet"}, "the base has box, padded_mailer"),
    ],
)
def test_a_chosen_map_must_fit(tmp_path: Path, chosen: dict[str, str], message: str) -> None:
    with pytest.raises(DeckError, match=message):
        make_deck(frames(tmp_path, numbered(8)), base_labels=LABELS, class_map=chosen)


# --- what makes no deck -----------------------------------------------------------------------------------------------


def test_reasons_for_no_deck(tmp_path: Path) -> None:
    many = tuple("wxyz")
    cases = [
        (frames(tmp_path, numbered(4)), {}, "3 train images are too few"),
        (frames(tmp_path, numbered(1)), {}, "cannot both train and judge"),
        (frames(tmp_path, numbered(8)), {"images": 3}, "3 train images are too few"),
        (frames(tmp_path, numbered(8)), {"holdout_fraction": 1.0}, "between 0 and 1"),
        (frames(tmp_path, numbered(8), labels=[()] * 6 + [("box",)] * 2), {}, "none of the 6 train images"),
        (frames(tmp_path, numbered(8), labels=[("box",)] * 6 + [()] * 2), {}, "none of the 2 holdout images"),
        (frames(tmp_path, numbered(8), labels=[many] * 8, classes=many), {}, "has 3 spare labels"),
    ]
    for dataset, arguments, message in cases:
        with pytest.raises(DeckError, match=message):
            make_deck(dataset, base_labels=LABELS, **arguments)


def test_several_classes_may_be_one_where_the_team_says_so(tmp_path: Path) -> None:
    names = ("carton", "crate", "tube")
    dataset = frames(tmp_path, numbered(8), labels=[names] * 8, classes=names)
    deck = make_deck(dataset, base_labels=LABELS, class_map={"carton": "box", "crate": "box"})
    assert deck.class_map == {"carton": "box", "crate": "box", "tube": "cylinder"}
    assert deck.merged == {"box": "carton"} and deck.label_map == {"box": "carton", "cylinder": "tube"}
    assert deck.answers == {"carton": "carton", "crate": "carton", "tube": "tube"}
    assert deck.answered == ("carton", "tube") and deck.merges == {"carton": ("carton", "crate")}
    again = Deck.from_json(deck.to_json())
    assert again == deck and again.digest == deck.digest
    other = make_deck(dataset, base_labels=LABELS, class_map={"crate": "box", "carton": "box"})
    assert other.merged == {"box": "crate"}, "the map's first gives the name"
    assert other.answered == ("crate", "tube")
    assert b"merged" not in make_deck(dataset, base_labels=LABELS).to_json(), "older decks keep their names"


@pytest.mark.parametrize(
    ("classes", "chosen", "labels"),
    [
        ("crate,box", {"crate": "box"}, "box,box"),  # the base's own name belongs there without being told
        ("crate,box,boxes", {"crate": "box"}, "box,box,reserved_0"),
        ("box,boxes", {"box": "box"}, "box,reserved_0"),
        ("crate,carton", {"crate": "box"}, "box,reserved_0"),  # a synonym is the team's to merge
    ],
)
def test_what_joins_a_chosen_label(tmp_path: Path, classes: str, chosen: dict[str, str], labels: str) -> None:
    names = tuple(classes.split(","))
    dataset = frames(tmp_path, numbered(8), labels=[names] * 8, classes=names)
    deck = make_deck(dataset, base_labels=LABELS, class_map=chosen)
    assert deck.class_map == dict(zip(names, labels.split(","), strict=True))


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_is_canonical_and_its_digest_is_the_name(tmp_path: Path) -> None:
    dataset = frames(tmp_path, [f"größe-{k}.jpg" for k in range(8)])
    deck = make_deck(dataset, base_labels=LABELS, dataset_ref="acme/dock-7@abc", seed=3)
    assert (deck.dataset, deck.commit, deck.seed) == ("acme/dock-7", "abc", 3)
    data = deck.to_json()
    assert Deck.from_json(data) == deck
    assert deck.digest == hashlib.sha256(data).hexdigest()
    assert make_deck(dataset, base_labels=LABELS, dataset_ref="acme/dock-7@abc", seed=3).to_json() == data
    with pytest.raises(DeckError, match="canonical"):
        Deck.from_json(b" " + data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "not of format 1"),
        ({"extra": 1}, "not the expected ones"),
        ({"train": "a"}, "train must be list"),
        ({"train": [1]}, "must hold str"),
        ({"train": []}, "needs train and holdout"),
        ({"holdout": ["a.jpg"]}, "twice"),
        ({"weights": [1.0]}, "1 weights for 2"),
        ({"weights": [1.0, 0.0]}, "above 0"),
        ({"weights": [1, 1]}, "must hold float"),
        ({"class_map": {"a": "x", "b": "x"}}, "`merged` must name"),
        ({"class_map": {"a": "x", "b": "x"}, "merged": {"x": "c"}}, "`merged` must name"),
        ({"class_map": {"a": "x"}, "merged": {"x": "a"}}, "`merged` must name"),
        ({"class_map": {"a": 1}}, "text to text"),
        ({"seed": True}, "seed must be int"),
    ],
)
def test_json_is_checked(changes: dict[str, object], message: str) -> None:
    deck = Deck("acme/x", None, ("a.jpg", "b.jpg"), ("c.jpg",), (1.0, 1.0), {"box": "box"})
    document = json.loads(deck.to_json()) | changes
    with pytest.raises(DeckError, match=message):
        Deck.from_json(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(DeckError, match="not JSON"):
        Deck.from_json(b"{")


def test_select_wants_every_image(tmp_path: Path) -> None:
    dataset = frames(tmp_path, numbered(8))
    deck = make_deck(dataset, base_labels=LABELS)
    train, holdout = deck.select(dataset)
    assert [s.name for s in (*train, *holdout)] == [*deck.train, *deck.holdout]
    with pytest.raises(DeckError, match=r"no image 'frame-0\.jpg'"):
        deck.select(Dataset("cell", ("box",), dataset.samples[1:]))


def test_real_photographs_make_a_deck() -> None:
    dataset = read_dataset(shared_data("rack-boxes"), check_images=False)
    deck = make_deck(dataset, base_labels=LABELS, images=40)
    assert len(deck.train) == 40
    assert len(deck.holdout) == sum(sample.split == "valid" for sample in dataset.samples)
