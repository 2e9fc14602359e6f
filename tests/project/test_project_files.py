"""The files that tools outside this repository read: they are well-formed, and say what the project says elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import edgeq

ROOT = Path(__file__).parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_is_cff_and_of_this_version() -> None:
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert isinstance(citation["message"], str)
    assert isinstance(citation["title"], str)
    assert citation["type"] == "software"
    assert citation["version"] == edgeq.__version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert citation["authors"] == [{"name": "The edgeq authors"}]
    known = {"cff-version", "message", "type", "title", "version", "license", "authors", "keywords"}
    assert set(citation) <= known  # and so no identifier that nobody registered


def test_the_changelog_is_kept_and_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0].startswith(f"{edgeq.__version__} - ")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - (unreleased|\d{4}-\d{2}-\d{2})", release) for release in releases)
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hooks_call_targets_of_make_and_fetch_nothing() -> None:
    repositories = load(".pre-commit-config.yaml")["repos"]
    assert [r["repo"] for r in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert len({hook["id"] for hook in hooks}) == len(hooks)
    for hook in hooks:
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        assert hook["entry"] in {f"make {target}" for target in TARGETS}
    check = re.search(r"^check: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert check is not None
    assert [hook["id"] for hook in hooks] == check[1].split(), "the hooks are make check, part by part"


def test_the_workflow_runs_what_ci_runs_on_the_same_python() -> None:
    workflow = load(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    ran = {" ".join([*(f"{k}={v}" for k, v in step.get("env", {}).items()), step["run"]]) for step in steps if "run" in step}
    asked = set(re.findall(r"^(?:[A-Z_]+=\S+ )*make [a-z -]+$", (ROOT / ".ci" / "run").read_text().replace(" && ", "\n"), re.MULTILINE))
    assert {"make check"} < asked
    assert asked <= ran
    assert {"make docs", "make quick"} <= ran
    assert {line.rpartition("make ")[2] for line in ran} <= TARGETS
    versions = {step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")}
    assert versions == {"3.11"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_pages_name_targets_that_make_knows(page: str) -> None:
    named = set(re.findall(r"`?\bmake ([a-z-]+)\b`?", "\n".join(re.findall(r"`[^`]+`|^make .*$", (ROOT / page).read_text(), re.MULTILINE))))
    assert named
    assert named <= TARGETS
