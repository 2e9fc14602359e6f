"""Samples, class names, class maps, and labels against the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.data import Images, check_labels, fitted, read_names, sample
from edgeq.data._classes import with_map, with_names

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def images(labels: list[int], classes: tuple[str, ...] | None = None, names: list[str] | None = None) -> Images:
    names = names or [f"{i}.png" for i in range(len(labels))]
    return Images("zip:d.zip", names, np.array(labels, np.int64), classes, lambda i: np.zeros((1, 1, 1), np.uint8), lambda: [b""])


@given(SIZES, st.integers(0, 2**40), st.data())
def test_a_sample_is_distinct_repeats_and_begins_every_longer_one(sizes: list[int], seed: int, draw: st.DataObject) -> None:
    dataset = images([c for c, size in enumerate(sizes) for _ in range(size)])
    n = draw.draw(st.integers(1, len(dataset)))
    everything = sample(dataset, None, seed)
    assert sorted(everything) == list(range(len(dataset)))
    assert (sample(dataset, n, seed) == everything[:n]).all()
    assert len(sample(dataset, len(dataset) + 5, seed)) == len(dataset)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 1000), st.data())
def test_classes_of_equal_size_differ_by_at_most_one(classes: int, size: int, seed: int, draw: st.DataObject) -> None:
    dataset = images([c for c in range(classes) for _ in range(size)])
    chosen = sample(dataset, draw.draw(st.integers(1, len(dataset))), seed)
    counts = np.bincount(dataset.labels[chosen], minlength=classes)
    assert counts.max() - counts.min() <= 1


def test_classes_of_unequal_size_keep_their_shares() -> None:
    # one class of 900 and a hundred of 1: a hundred rows hold about ninety of the first
    dataset = images([0] * 900 + list(range(1, 101)))
    shares = [int((dataset.labels[sample(dataset, 100, seed)] == 0).sum()) for seed in range(20)]
    assert abs(np.mean(shares) - 90) < 2
    assert max(shares) - min(shares) <= 12


@given(st.permutations(range(24)), st.integers(0, 99))
def test_a_sample_does_not_depend_on_the_order_of_files(order: list[int], seed: int) -> None:
    labels = [i % 3 for i in range(24)]
    straight = images(labels)
    mixed = images([labels[i] for i in order], names=[f"{i}.png" for i in order])
    assert [straight.names[i] for i in sample(straight, 10, seed)] == [mixed.names[i] for i in sample(mixed, 10, seed)]


def test_seeds_differ_and_nothing_is_not_a_sample() -> None:
    dataset = images([i % 10 for i in range(1000)])
    first, second = set(sample(dataset, 100, 0)), set(sample(dataset, 100, 1))
    assert len(first & second) < 30  # 10 of 100 by chance
    with pytest.raises(EdgeqError, match="--n 0"):
        sample(dataset, 0, 0)


def test_labels_must_fit_the_model() -> None:
    check_labels(images([0, 2]), 3)
    for labels, classes, message in (
        ([0, -1], None, r"label -1 of 1\.png is negative"),
        ([0, 3], None, r"label 3 of 1\.png is outside the model's classes 0\.\.2"),
        ([0, 1], ("a", "b"), "has 2 classes and the model 3; pass --class-map"),
    ):
        with pytest.raises(EdgeqError, match=message):
            check_labels(images(labels, classes), 3)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", json.dumps({"cat": 281, "dog": 207})),
        (".csv", "class,index\ncat,281\ndog,207\n"),
        (".csv", "cat,281\ndog,207\n"),
    ],
)
def test_a_class_map_renumbers(tmp_path: Path, suffix: str, text: str) -> None:
    (tmp_path / f"map{suffix}").write_text(text)
    mapped = with_map(images([1, 0, 1], ("cat", "dog")), tmp_path / f"map{suffix}")
    assert mapped.labels.tolist() == [207, 281, 207]
    assert "2 data classes to 2 of the model" in mapped.notes[0]
    check_labels(mapped, 1001)


def test_a_class_map_of_numbers_and_of_names() -> None:
    assert with_map(images([3, 5]), {"3": 0, "5": 1}).labels.tolist() == [0, 1]
    named = with_map(images([0, 1], ("kitty", "dog")), {"kitty": "cat", "dog": "dog"}, ("dog", "cat"))  # type: ignore[dict-item]
    assert named.labels.tolist() == [1, 0]
    assert named.classes == ("dog", "cat")


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".json", '{"cat": 1}', "says nothing of class 'dog'"),
        (".json", '{"cat": 1, "dog": -2}', "class 'dog' is mapped to -2"),
        (".json", '{"cat": 1, "dog": 1.5}', "class 'dog' is mapped to 1.5"),
        (".json", '{"cat": 1, "dog": true}', "class 'dog' is mapped to True"),
        (".json", '{"cat": 1, "dog": NaN}', "class 'dog' is mapped to nan"),
        (".json", '{"cat": 1, "dog": "wolf"}', "class 'dog' is mapped to 'wolf'"),
        (".json", "[1]", "is not a JSON object"),
        (".json", "{", "is not JSON"),
        (".json", "[" * 100_000, "is not JSON"),
        (".csv", "cat,1,2\n", "two columns"),
        (".csv", "", "two columns"),
    ],
)
def test_bad_class_maps(tmp_path: Path, suffix: str, text: str, message: str) -> None:
    (tmp_path / f"map{suffix}").write_text(text)
    with pytest.raises(EdgeqError, match=message):
        with_map(images([0, 1], ("cat", "dog")), tmp_path / f"map{suffix}")


def test_a_missing_class_map(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="cannot be read"):
        data.open("digits", class_map=tmp_path / "none.json")


def test_model_names_move_labels_only_where_they_are_sure() -> None:
    animals = images([0, 1, 2], ("cat", "dog", "ray fish"))
    moved = with_names(animals, ("Ray_Fish, Batoidea", "dog", "owl", "cat, Felis catus"))
    assert moved.labels.tolist() == [3, 1, 0]
    assert moved.notes == ["classes are matched to the model's by name"]
    # never by their order
    with pytest.raises(EdgeqError, match="0 of its 3 class names and not 'cat', 'dog', 'ray fish'; its own others are 'Katze', 'Hund'"):
        with_names(animals, ("Katze", "Hund", "Rochen"))
    with pytest.raises(EdgeqError, match="knows 2 of its 3 class names and not 'ray fish'; its own others are 'ray'; pass --class-map"):
        with_names(animals, ("cat", "dog", "ray"))
    with pytest.raises(EdgeqError, match="its classes 'cat', 'Felis catus' are all the model's 'cat, Felis catus'"):
        with_names(images([0, 1], ("cat", "Felis catus")), ("cat, Felis catus", "dog"))
    with pytest.raises(EdgeqError, match="not 'crane'"):  # a bird or a machine
        with_names(images([0, 1], ("crane", "dog")), ("crane, bird", "crane, machine", "dog"))
    assert with_names(images([0, 1], ("crane, machine", "dog")), ("crane, bird", "crane, machine", "dog")).labels.tolist() == [1, 2]
    assert with_names(images([0, 1], ("crane", "crane")), ("crane", "crane")).labels.tolist() == [0, 1]
    # names that do not fit the model's outputs are not believed
    unused = with_names(animals, ("a", "b"), classes=3)
    assert unused.classes == animals.classes
    assert "are not used" in unused.notes[0]
    assert with_names(images([0, 1]), ("a", "b")).classes == ("a", "b")


def test_names_from_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("background\ntench, Tinca tinca\n\n")
    (tmp_path / "names.json").write_text('["a", "b"]')
    (tmp_path / "bad.json").write_text('["a", 1]')
    (tmp_path / "empty.txt").write_text("\n")
    assert read_names(tmp_path / "names.txt") == ("background", "tench, Tinca tinca")
    assert read_names(tmp_path / "names.json") == ("a", "b")
    for name, message in (("bad.json", "JSON list"), ("empty.txt", "contains no class names"), ("none.txt", "cannot be read")):
        with pytest.raises(EdgeqError, match=message):
            read_names(tmp_path / name)


WNIDS = tuple(f"n{10**7 + 7 * i:08d}" for i in range(1000))
INDEX = {str(i): [wnid, "tench" if i == 0 else f"thing {i}"] for i, wnid in enumerate(WNIDS)}


def test_folders_of_all_synsets_fit_a_model_with_a_background() -> None:
    opened = fitted(images([0, 999], WNIDS), 1001, None, None)
    assert opened.labels.tolist() == [1, 1000]
    assert "classes 1 to 1,000 of the model" in opened.notes[0]
    assert fitted(images([0, 999], WNIDS), 1000, None, None).labels.tolist() == [0, 999]
    plain = ("tench, Tinca tinca", *(f"thing {i}" for i in range(1, 1000)))
    assert fitted(images([0, 999], WNIDS), 1001, None, ("background", *plain)).labels.tolist() == [1, 1000]
    named = fitted(images([0, 999], WNIDS), 1000, None, plain)
    assert named.labels.tolist() == [0, 999]
    assert "in their order" in named.notes[0]
    with pytest.raises(EdgeqError, match="knows 0 of its 1000 class names"):  # another task of 1,000 classes
        fitted(images([0, 999], WNIDS), 1000, None, tuple(f"word {i}" for i in range(1000)))
    with pytest.raises(EdgeqError, match="has 999 classes and the model 1001"):
        fitted(images([0, 998], WNIDS[1:]), 1001, None, None)


@pytest.mark.parametrize("classes", [1000, 1001])
def test_some_synsets_are_matched_by_a_class_index(tmp_path: Path, classes: int) -> None:
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps(INDEX))
    assert read_names(path)[:2] == (f"tench, {WNIDS[0]}", f"thing 1, {WNIDS[1]}")
    some = images([0, 1], (WNIDS[40], WNIDS[7]))
    want = [40 + classes - 1000, 7 + classes - 1000]
    assert fitted(some, classes, None, read_names(path)).labels.tolist() == want
    assert [int(v) for v in with_map(some, path, None, classes).labels] == want
    assert fitted(images([0, 1], ("thing 40", "Thing_7")), classes, None, read_names(path)).labels.tolist() == want


def test_a_class_index_says_nothing_of_a_name_of_two_classes(tmp_path: Path) -> None:
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps({"0": ["n00000001", "crane"], "1": ["n00000002", "crane"], "2": ["n00000003", "dog"]}))
    assert with_map(images([0, 1], ("n00000002", "dog")), path).labels.tolist() == [1, 2]
    with pytest.raises(EdgeqError, match="says nothing of class 'crane'"):
        with_map(images([0, 1], ("crane", "dog")), path)


def test_names_with_numbers_or_ids_before_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    for text, want in (
        ("0  background\n1  tench, Tinca tinca\n", ("background", "tench, Tinca tinca")),
        ("1: b\n0: a\n", ("a", "b")),
        ("0 a\n2 b\n", ("0 a", "2 b")),  # a gap: no numbers of classes
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("tench, Tinca tinca, n01440764", "goldfish, n01443537")),
        ("3 dogs\ncat\n", ("3 dogs", "cat")),
    ):
        path.write_text(text)
        assert read_names(path) == want
