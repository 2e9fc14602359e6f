"""Plugins by file name and by entry point: what is listed, what is loaded, what is said of one that cannot be."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgeq import runtimes
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError

GOOD = '''
"""An attack out of another package."""
from dataclasses import dataclass
from typing import ClassVar, Literal

@dataclass(frozen=True)
class Nudge:
    steps: int | None = None
    size: float = 0.5
    loud: bool = False
    how: Literal["up", "down"] = "up"
    note: str | None = None
    needs: ClassVar[str] = "nothing"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    targeted: ClassVar[bool] = False

    def __post_init__(self):
        if self.size < 0:
            raise ValueError("size must not be negative")

    def evaluations(self):
        return 0

    def craft(self, source, clean, rows, threat, seed, goal=None):
        raise NotImplementedError
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a throwaway package: ``package(name, entry points, {module: source})``."""

    def install(name: str, points: str, modules: dict[str, str] | None = None) -> None:
        folder = tmp_path / name
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        for module, source in (modules or {}).items():
            (folder / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(str(folder))

    return install


def test_another_package_adds_an_attack_with_options(package) -> None:
    package("nudging", "[edgeq.attacks]\nnudge = nudge_attack:Nudge\n", {"nudge_attack": GOOD})
    assert "nudge" in plugins.names(plugins.ATTACKS)
    assert "nudge_attack" not in sys.modules, "listing imports nothing"
    name, value = plugins.build(plugins.ATTACKS, "nudge:steps=7:size=2:loud=yes:how=down:note=a b")
    assert (name, asdict(value)) == ("nudge", {"steps": 7, "size": 2.0, "loud": True, "how": "down", "note": "a b"})
    assert type(value.size) is float
    assert plugins.build(plugins.ATTACKS, "nudge")[1].steps is None
    for params in (asdict(value), asdict(plugins.build(plugins.ATTACKS, "nudge")[1])):
        assert asdict(plugins.restore(plugins.ATTACKS, "nudge", params)) == params
    assert plugins.problems() == []
    assert plugins.working(plugins.ATTACKS).keys() == {*plugins.names(plugins.ATTACKS)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nudge:stops=3", "nudge has no option 'stops'; it takes steps, size, loud, how, note"),
        ("nudge:steps", "nudge has no option 'steps'; it takes"),
        ("nudge:steps=x", "steps=x is not a int below 2^31"),
        ("nudge:size=inf", "size=inf is not a float below 2^31"),
        ("nudge:loud=perhaps", "loud=perhaps is not a bool"),
        ("nudge:how=left", "how=left is none of up, down"),
        ("nudge:size=-1", "size must not be negative"),
        ("nugde", "did you mean nudge"),
    ],
)
def test_a_wrong_option_is_a_sentence(package, text: str, said: str) -> None:
    package("nudging", "[edgeq.attacks]\nnudge = nudge_attack:Nudge\n", {"nudge_attack": GOOD})
    with pytest.raises(EdgeqError, match=said.replace("^", r"\^")):
        plugins.build(plugins.ATTACKS, text)


@pytest.mark.parametrize(
    "params", [{"steps": 1.5}, {"steps": True}, {"size": None}, {"loud": 1}, {"how": "left"}, {"other": 1}, {"note": 3}, {"size": "1"}]
)
def test_what_a_run_file_says_is_held_against_the_annotations(package, params) -> None:
    package("nudging", "[edgeq.attacks]\nnudge = nudge_attack:Nudge\n", {"nudge_attack": GOOD})
    with pytest.raises(ValueError, match="nudge has no"):
        plugins.restore(plugins.ATTACKS, "nudge", params)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "the attack foo of package bar cannot be loaded: No module named 'no_such_module'"),
        ("raise SystemExit", "the attack foo of package bar cannot be loaded: SystemExit"),
        ("x = (", "the attack foo of package bar cannot be loaded: '\\(' was never closed"),
        ("Foo = 3", "the attack foo of package bar cannot be used: it has no craft and no evaluations and no needs and no norms"),
        ("", "the attack foo of package bar cannot be loaded: module 'broken_plugin' has no attribute 'Foo'"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named_and_the_others_work(package, source: str, said: str) -> None:
    package("bar", "[edgeq.attacks]\nfoo = broken_plugin:Foo\n", {"broken_plugin": source})
    assert "foo" in plugins.names(plugins.ATTACKS)
    with pytest.raises(EdgeqError, match=f"^{said}"):
        plugins.load(plugins.ATTACKS, "foo")
    assert len(plugins.problems()) == 1
    assert plugins.problems()[0].startswith("the attack foo of package bar cannot be")
    assert plugins.working(plugins.ATTACKS).keys() == {*plugins.names(plugins.ATTACKS)} - {"foo"}
    assert plugins.build(plugins.ATTACKS, "pgd:steps=2")[1].needs == "gradients"


def test_a_plugin_whose_options_cannot_be_read_is_named(package) -> None:
    odd = GOOD.replace("note: str | None = None", "note: list = None")
    package("bar", "[edgeq.attacks]\nfoo = odd_plugin:Nudge\n", {"odd_plugin": odd})
    with pytest.raises(EdgeqError, match="the attack foo of package bar cannot be used: its option note is none of bool, int, float, str"):
        plugins.build(plugins.ATTACKS, "foo")


def test_an_own_name_wins_and_two_packages_with_one_name_are_refused(package) -> None:
    package("one", "[edgeq.attacks]\npgd = nudge_attack:Nudge\nnudge = nudge_attack:Nudge\n", {"nudge_attack": GOOD})
    package("two", "[edgeq.attacks]\nnudge = nudge_attack:Nudge\n")
    assert plugins.load(plugins.ATTACKS, "pgd").__module__ == "edgeq.attacks.pgd"
    with pytest.raises(EdgeqError, match=r"the attack nudge is offered by several packages \(one, two\); uninstall all but one"):
        plugins.load(plugins.ATTACKS, "nudge")
    first, second = plugins.problems()
    assert "the attack nudge is offered by several" in first
    assert second == "the attack pgd is edgeq's own; that of one is not used"


RUNTIME = '''
"""LiteRT's reference kernels under another name."""
from dataclasses import replace
from edgeq.runtimes.litert_reference import plugin as reference

plugin = replace(reference, name="slow", rank=5)
wrong = replace(reference, name="other")

class Away(type(reference)):
    modules = ("no_such_engine",)
    missing = "the engine is away; pip install it"

away = Away("away", "BUILTIN_REF", 5)
'''


def test_another_package_adds_a_runtime_that_workers_find(package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_tflite

    package(
        "slowly",
        "[edgeq.runtimes]\nslow = slow_runtime:plugin\nmisnamed = slow_runtime:wrong\naway = slow_runtime:away\n",
        {"slow_runtime": RUNTIME},
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slowly"))  # of workers
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier())
    assert runtimes.listed(".tflite")[:2] == ("away", "slow")
    assert runtimes.probe("slow", path) == runtimes.probe("litert-reference", path)
    with pytest.raises(EdgeqError, match=r"m\.tflite: the engine is away; pip install it$"):
        runtimes.probe("away", path)
    with pytest.raises(EdgeqError, match="the runtime misnamed calls itself other"):
        runtimes.probe("misnamed", path)


def test_runtimes_keep_their_order_and_a_name_that_is_unknown_lists_them() -> None:
    assert runtimes.listed() == ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "ort")
    assert runtimes.listed(".onnx") == ("ort",)
    with pytest.raises(EdgeqError, match="choose one of: litert-xnnpack, litert-builtin, litert-reference, tflm, tflm-exact, ort"):
        runtimes.check_name("zzz")


def test_listing_imports_no_plugin_and_no_package_metadata() -> None:
    code = (
        "import sys; from edgeq.core import plugins; [plugins.names(k) for k in plugins.KINDS]; plugins.load(plugins.ATTACKS, 'noise'); "
        "print([m for m in sys.modules if m.startswith(('edgeq.attacks.', 'edgeq.runtimes', 'edgeq.data', 'importlib.metadata'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['edgeq.attacks.noise']"


def test_the_own_reader_of_entry_points_is_a_short_cut_only(package) -> None:
    """What it finds is importlib.metadata's answer; it only asks whether there is any."""
    package("nudging", "[console_scripts]\nnudge = nudge:main\n")
    assert not plugins._any_offers(tuple(sys.path))
    package("more", "[edgeq.estimators]\nx = y:z\n")
    assert plugins._any_offers(tuple(sys.path))
    assert [p.name for p in importlib.metadata.entry_points(group="edgeq.estimators")] == ["x"]
    assert "x" in plugins.names(plugins.ESTIMATORS)


def test_the_example_of_the_docs_works_as_it_stands(package) -> None:
    import toys

    from edgeq.core.threat import Threat

    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    source = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "class Corners" in block)
    project = tomllib.loads(next(block for block in re.findall(r"```toml\n(.*?)```", text, re.S)))["project"]
    points = project["entry-points"]["edgeq.attacks"]
    package("corner_attacks", "[edgeq.attacks]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()), {"corner_attacks": source})
    rows, clean = toys.rows_and_images(9)
    threat = Threat("linf", 4 / 255)
    for share in (0.5, 1.0):
        _, attack = plugins.build(plugins.ATTACKS, f"corners:share={share}")
        made = attack.craft(toys.LinearSource(toys.LinearTarget()), clean, rows, threat, 0)
        assert threat.contains(made.candidates, clean).all()
        change = made.candidates.astype(int) - clean
        inside = (clean >= 4) & (clean <= 251)
        assert np.abs(change[inside]).mean() == pytest.approx(4 * share, rel=0.15)
        assert {*np.unique(change[inside])} <= {-4, 0, 4}
        one = attack.craft(toys.LinearSource(toys.LinearTarget()), clean[3:4], rows[np.array([3])], threat, 0)
        assert np.array_equal(one.candidates, made.candidates[3:4])
    with pytest.raises(EdgeqError, match="share must be above 0"):
        plugins.build(plugins.ATTACKS, "corners:share=2")
