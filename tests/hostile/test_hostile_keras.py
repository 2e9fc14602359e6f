"""Keras files from strangers: no code of theirs runs, and what they ask for is refused in one sentence, soon, before it is made."""

from __future__ import annotations

import resource
import sys
import time
import zipfile
from pathlib import Path

import keras_files as make
import numpy as np
import pytest

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.keras import engine, scan
from edgeq.keras.load import load

pytestmark = pytest.mark.tensorflow
pytest.importorskip("tf_keras")

SECONDS, BYTES = 5, 1 << 30
BIG = 1 << 24
RAW = "mean=0,std=1"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small classifier of each Keras in each form."""
    folder, tf = tmp_path_factory.mktemp("good"), engine.tensorflow()
    for name, keras in (("2", tf.keras), ("3", engine.need("keras"))):
        for suffix in (".h5", ".keras"):
            make.plain(keras).save(folder / f"{name}{suffix}")
    return folder


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a trace when it is imported; its folder, where a working directory would be."""
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nLayer = relu = Zeros = dict\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("stranger", None)


def refused(path: Path, words: str) -> None:
    """One sentence that names the file, within the limits, and no trace of anything that ran."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(EdgeqError, match=words) as caught:
        load(path)
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not list(path.parent.glob("trace*"))


CODE = [
    ("2.h5", lambda at: make.calls_function("io.write_file", f"{at}/trace", contents="x"), "calls the function io.write_file"),
    ("2.keras", lambda at: make.calls_function("io.write_file", f"{at}/trace", contents="x"), "calls the function io.write_file"),
    ("2.h5", lambda at: make.calls_function("load_op_library", f"{at}/native.so"), "calls the function load_op_library"),
    ("2.keras", lambda at: make.calls_function("io.gfile.mkdir", f"{at}/trace"), "calls the function io.gfile.mkdir"),
    ("2.keras", lambda at: make.calls_function("raw_ops.PrintV2", f"{at}/trace"), "calls the function raw_ops.PrintV2"),
    ("2.keras", lambda at: make.kind("relu", module="stranger", class_name="Layer", registered_name="Layer"), "foreign module"),
    ("3.keras", lambda at: make.kind("relu", module="stranger", class_name="Layer", registered_name=None), "foreign module"),
    ("3.keras", lambda at: make.kind("relu", class_name="Layer", registered_name="stranger>Layer"), "has a layer Layer"),
    ("3.keras", lambda at: make.kind("relu", registered_name="stranger>ReLU"), "has a layer ReLU"),
    ("3.keras", lambda at: make.kind("relu", module="keras.layers", class_name="TFSMLayer", config={"filepath": f"{at}/saved"}), "code of"),
    ("3.h5", lambda at: make.setting("dense", "activation", "stranger.relu"), "the activation stranger.relu"),
    ("2.h5", lambda at: make.setting("dense", "activation", "io.write_file"), "the activation io.write_file"),
    (
        "3.keras",
        lambda at: make.setting("dense", "activation", {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}}),
        "code of its own",
    ),
    (
        "2.keras",
        lambda at: make.setting("dense", "kernel_initializer", {"module": "stranger", "class_name": "Zeros", "config": {}}),
        "foreign module",
    ),
    ("3.keras", lambda at: make.setting("dense", "kernel_initializer", {"class_name": "stranger>Zeros", "config": {}}), "initializer"),
    ("3.keras", lambda at: make.setting("dense", "dtype", {"module": "stranger", "class_name": "Policy", "config": {}}), "foreign module"),
    ("3.keras", lambda at: make.argument({"class_name": "__lambda__", "config": {"value": "4wAA"}}), "neither a number nor"),
    ("3.keras", lambda at: make.argument({"class_name": "function", "module": "stranger", "config": "relu"}), "neither a number nor"),
    ("3.keras", lambda at: make.argument({"class_name": "__tensor__", "config": {"value": 0, "dtype": "S999999999"}}), "of the kind S9"),
    ("3.keras", lambda at: make.operation("keras.src.ops.core", "Map"), "the operation Map"),
    ("3.keras", lambda at: make.operation("keras.src.utils.file_utils", "get_file"), "has a layer get_file"),
    ("2.keras", lambda at: lambda config: config.update({"module": "stranger", "class_name": "Layer"}), "foreign module"),
]


@pytest.mark.parametrize("case", range(len(CODE)))
def test_code_in_a_configuration_does_not_run(good: Path, stranger: Path, case: int) -> None:
    name, change, words = CODE[case]
    refused(make.edited(good / name, stranger / name, change(stranger)), words)
    assert "stranger" not in sys.modules


SIZES = [
    *((name, make.setting("dense", "units", BIG), "more weights than the file holds") for name in ("2.h5", "2.keras", "3.h5", "3.keras")),
    ("2.h5", make.setting("conv", "filters", BIG), "more weights than the file holds"),
    ("3.keras", make.setting("conv", "kernel_size", [1 << 15, 1 << 15]), "more weights|cannot load"),
    ("2.h5", make.setting("given", "batch_input_shape", [None, 1 << 16, 1 << 16, 1]), "more weights than the file holds"),
    ("2.keras", make.setting("given", "batch_input_shape", [BIG, 6, 6, 1]), "takes an input of 603,979,776 numbers"),
    ("2.keras", make.chain(100_000), "calls more than"),
    ("2.h5", make.nested(300), "deep in each other"),
    ("3.keras", make.nested(100), "deep in each other"),
    ("2.h5", make.doubling(6), "calls more than"),
    ("2.h5", make.setting("dense", "units", 10**30), "damaged"),
    ("3.keras", make.setting("dense", "units", float("nan")), "neither a number nor"),
    ("2.h5", lambda config: config["config"].update(layers=[[]]), "configuration is damaged"),
    ("2.h5", lambda config: config["config"].update(output_layers=[["relu", 7, 0]]), "cannot load|damaged"),
    (
        "2.keras",
        make.kind("relu", class_name="UpSampling2D", config={"name": "relu", "size": [1 << 20, 1 << 20]}),
        "cannot load|that is no network|more weights",
    ),
]


@pytest.mark.parametrize("case", range(len(SIZES)))
def test_what_is_declared_is_not_made(good: Path, tmp_path: Path, case: int) -> None:
    name, change, words = SIZES[case]
    refused(make.edited(good / name, tmp_path / name, change), words)


def test_arrays_by_the_thousand_and_zeros_by_the_gigabyte(good: Path, tmp_path: Path) -> None:
    refused(make.many_arrays(good / "2.h5", tmp_path / "many.h5"), "arrays")
    refused(make.inflated(good / "3.keras", tmp_path / "zeros.keras"), "GiB of weights")


@pytest.mark.parametrize("make_bad", [make.crashes_hdf5, make.fills_memory])
def test_what_the_hdf5_library_does_not_survive_is_damaged(good: Path, tmp_path: Path, make_bad) -> None:
    refused(make_bad(good / "2.h5", tmp_path / "bad.h5"), "damaged")
    inside = make_bad(good / "3.h5", tmp_path / "member")  # of an archive, where h5py would read it just as well
    with zipfile.ZipFile(good / "3.keras") as old, zipfile.ZipFile(tmp_path / "bad.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, inside.read_bytes() if name.endswith(".h5") else old.read(name))
    refused(tmp_path / "bad.keras", "damaged")


def test_a_folder_for_copies_that_is_full_or_gone_is_named(good: Path, tmp_path: Path) -> None:
    for name, folder in (("2.h5", tmp_path / "gone"), ("3.keras", tmp_path / "gone")):
        with pytest.raises(EdgeqError, match=r"cannot be copied to .*set TMPDIR to another place"):
            (scan.h5 if name.endswith("h5") else scan.archive)(good / name, folder)


def test_savedmodels_run_nothing_and_end(tmp_path: Path) -> None:
    refused(make.saved_with_initialiser(tmp_path / "initialiser", tmp_path / "trace"), "it is not run")
    refused(make.saved(tmp_path / "forever", make.forever), "While.* is not run")
    refused(make.saved(tmp_path / "enormous", make.enormous), "that is no network")
    refused(make.unfolding(tmp_path / "unfolding", 40), "unfolds to more than")


def test_a_trusted_file_runs_its_code_in_the_command_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from edgeq.cli import main

    tf = engine.tensorflow()
    (tmp_path / "layers.py").write_text(
        "import tf_keras\nclass Twice(tf_keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
    )
    names: dict = {}
    exec((tmp_path / "layers.py").read_text(), names)
    k = tf.keras
    given = k.layers.Input((8, 8, 1))
    doubled = k.layers.Lambda(lambda z: z * 2.0)(names["Twice"]()(given))
    path = tmp_path / "own.h5"
    k.Model(given, k.layers.Dense(10)(k.layers.Flatten()(doubled))).save(path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "edgeq",
                "attack",
                "--target",
                str(path),
                "--data",
                "digits",
                "--n",
                "10",
                "--attack",
                "fgsm",
                "--preprocess",
                RAW,
                *arguments,
            ],
        )
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    code, said = run()
    assert code == 2
    assert f"pass --trust {path}" in said
    code, said = run("--trust", str(path), "--trust", str(tmp_path / "layers.py"))
    assert code == 0, said
    stopped = next((tmp_path / "runs").glob("*.sqlite"))
    monkeypatch.setattr(sys, "argv", ["edgeq", "resume", str(stopped)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2  # what the run file says is no reason to run code
    assert f"pass --trust {path}" in capsys.readouterr().err
    edgeq.trust(path, tmp_path / "layers.py")
    with edgeq.open(path, preprocess=RAW) as target:
        assert target.answer(np.zeros((1, 8, 8, 1), np.uint8)).raw.shape == (1, 10)
    edgeq.trust()
    with pytest.raises(EdgeqError, match="pass --trust"), edgeq.open(path, preprocess=RAW):
        pass
    with pytest.raises(EdgeqError, match="no such file"):
        edgeq.trust(tmp_path / "none.h5")
