"""`import edgeq`: everything by name, nothing loaded before it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq

NAMES = [name for name in edgeq.__all__ if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_says_what_it_is_for(name: str) -> None:
    value = getattr(edgeq, name)
    assert value.__name__ == name
    assert value.__doc__


def test_names_that_are_not_there_are_attribute_errors_and_the_others_are_listed() -> None:
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        edgeq.atack  # noqa: B018
    assert set(NAMES) <= set(dir(edgeq))


def test_the_type_checker_sees_the_names_that_are_looked_up() -> None:
    tree = ast.parse(Path(edgeq.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    seen.remove(("Any", "typing"))
    assert seen == {(name, place) for name, place in edgeq._PLACES.items()}


def loaded_after(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_edgeq_loads_no_room_and_no_other_package() -> None:
    loaded = loaded_after("import edgeq")
    assert {name for name in loaded if name.startswith("edgeq")} == {"edgeq"}
    assert not loaded & {"numpy", "click", "rich", "typing", "tensorflow"}


def test_asking_for_functions_does_not_load_the_heavy_packages() -> None:
    loaded = loaded_after("import edgeq; edgeq.open, edgeq.load, edgeq.attack, edgeq.result, edgeq.inspect")
    assert "edgeq.api.attacking" in loaded
    assert not loaded & {"tensorflow", "tf_keras", "onnxruntime", "onnx", "pandas", "click", "jinja2", "rich", "edgeq.cli"}
