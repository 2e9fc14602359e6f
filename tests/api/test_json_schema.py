"""docs/json.md is what the code gives: the dataclasses have the documented keys with their types, and so have real documents."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite

import edgeq
from edgeq.core.goal import Goal
from edgeq.measure import figures
from edgeq.report.to_json import META

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)
SECTIONS = {
    title: dict(ROW.findall(text))
    for title, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if ROW.search(text)
}
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null", typing.Any: "any"}
OWN = {"Document": figures.Summary, "TransferLine": None}  # what is no dataclass of its own name


def written(hint: typing.Any) -> str:
    """A type of a field, as the page writes it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(written, inner))
    if origin is tuple:
        return f"list of {written(inner[0])}"
    if origin is typing.Literal:
        return "string"
    return "object" if origin is Mapping else hint.__name__


def fields(kind: type) -> dict[str, str]:
    hints = typing.get_type_hints(kind)
    return {field.name: written(hints[field.name]) for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("title", [t for t in SECTIONS if t not in ("Share", "TransferRow", "TransferLine")])
def test_a_section_has_the_fields_of_its_dataclass(title: str) -> None:
    documented = dict(SECTIONS[title])
    if title == "Document":
        assert tuple(documented)[-len(META) :] == META
        documented = {key: kind for key, kind in documented.items() if key not in META}
    assert documented == fields(OWN.get(title) or getattr(figures, title))


def test_every_dataclass_of_a_document_has_a_section() -> None:
    named = {name for kinds in SECTIONS.values() for kind in kinds.values() for name in re.findall(r"[A-Z]\w+", kind)}
    assert named == set(SECTIONS) - {"Document"}


def faults(value: typing.Any, kind: str, at: str, seen: set[str]) -> Iterator[str]:
    """Where ``value`` is not of the documented ``kind``. ``seen``: the sections that were needed for it."""
    options = [kind] if kind.startswith("list of") else kind.split(" or ")
    if kind == "any" or (value is None and (kind.endswith(" or null") and not kind.startswith("list of list"))):
        return
    if kind.startswith("list of") and value is not None:
        if not isinstance(value, list):
            yield f"{at}: {value!r} is no list"
            return
        inner = kind.removeprefix("list of ")
        if inner == "number or null" and at.endswith("interval"):
            inner = "number"
        for k, part in enumerate(value):
            yield from faults(part, inner, f"{at}[{k}]", seen)
        return
    name = options[0]
    if name in SECTIONS:
        seen.add(name)
        if set(value) != set(SECTIONS[name]):
            yield f"{at}: {sorted(set(value) ^ set(SECTIONS[name]))} is only here, or only in the page, under {name}"
            return
        for key, inner in SECTIONS[name].items():
            yield from faults(value[key], inner, f"{at}.{key}", seen)
        return
    fits = {"integer": type(value) is int, "number": type(value) in (int, float), "string": isinstance(value, str)}
    if not (fits | {"boolean": type(value) is bool, "object": isinstance(value, dict)})[name]:
        yield f"{at}: {value!r} is no {name}"


def check(document: dict[str, typing.Any]) -> set[str]:
    seen: set[str] = set()
    plain = json.loads(json.dumps(document, allow_nan=False))
    assert list(faults(plain, "Document", "document", seen)) == []
    return seen


def small(folder: Path, **asked: typing.Any) -> dict[str, typing.Any]:
    """The document of two networks, one of which answers every image alike, attacked by queries. The other is right on all of them."""
    (folder / "a.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    (folder / "dead.tflite").write_bytes(tiny_tflite.classifier(dead=True))
    files = [folder / "a.tflite", folder / "dead.tflite"]
    digits = edgeq.load("digits", n=12)
    with edgeq.open(files[0], runtime="litert-reference") as right:
        images = edgeq.Images(digits.x, right.answer(digits.x).label())
    with edgeq.attack(files, images, "spsa:steps=2:batch=8", eps=["24/255", "48/255"], **asked) as result:
        return result.to_json()


@pytest.mark.slow
def test_a_document_of_query_attacks_has_what_the_page_says(tmp_path: Path) -> None:
    seen = check(small(tmp_path, runtime="tflm-exact", replay=["litert-reference"], agree=1, goal="next"))
    assert {"Confirmed", "Consensus", "Differing", "Alike", "Queries", "Floor", "Pair", "Lowest", "Agreement", "WorstCase"} <= seen


@pytest.mark.slow
def test_a_fault_would_be_found(tmp_path: Path) -> None:
    document = small(tmp_path, runtime="litert-reference")
    document["clean"][0]["accuracy"]["k"] = "many"
    document["cells"][0]["more"] = 1
    del document["rule"]["right"]
    assert len(list(faults(document, "Document", "document", set()))) == 3


@pytest.mark.tensorflow
def test_a_document_of_gradient_attacks_has_what_the_page_says(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    net = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=(8, 8, 1)), tf_keras.layers.Dense(10, activation="softmax")])
    net.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in net.get_weights()])
    net.save(tmp_path / "float.h5")
    files = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for seed, file in enumerate(files):
        file.write_bytes(tiny_tflite.classifier(seed=3 + seed))
    asked: dict[str, typing.Any] = {"eps": "24/255", "n": 12, "source": tmp_path / "float.h5", "runtime": "litert-reference"}
    with edgeq.attack(files, "digits", "pgd:steps=2", **asked, transfer=True) as result:
        seen = check(result.to_json())
    assert {"Transfer", "TransferRow", "TransferLine", "WhiteBox", "WhiteBoxLine", "ZeroGradient"} <= seen
    assert str(Goal()) == "untargeted" == result.summary.cells[0].goal
