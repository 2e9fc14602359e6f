"""Device profiles: the schema, the shipped ones, and whether files fit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgeq.core.devices import Device, all_devices, fits, load
from edgeq.core.errors import EdgeqError

KB, MB = 1024, 1024 * 1024
GOOD = """name = "board"
title = "A board"
core = "Cortex-M4F"
clock_mhz = 64
flash_bytes = 1_048_576
ram_bytes = 262_144
runtime = "tflm"
formats = ["int8 x int8"]
source = "data sheet"
"""


def test_the_shipped_profiles() -> None:
    found = {d.name: d for d in all_devices()}
    assert set(found) >= {"stm32f469", "stm32l4r5zi", "nrf52840", "rp2040", "esp32-s3", "raspberry-pi-4", "phone"}
    assert (found["stm32f469"].ram_bytes, found["stm32f469"].flash_bytes) == (384 * KB, 2 * MB)  # B19's example
    assert found["raspberry-pi-4"].runtime == found["phone"].runtime == "litert-xnnpack"
    for device in found.values():
        assert load(device.name) == device
        assert device.runtime == ("tflm" if device.flash_bytes else "litert-xnnpack")
        assert device.ram_bytes >= 256 * KB


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(EdgeqError, match="did you mean nrf52840"):
        load("nrf52480")


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(GOOD)
    assert load(tmp_path / "board.toml") == Device(
        "board", "A board", "Cortex-M4F", 64, 256 * KB, "tflm", ("int8 x int8",), "data sheet", 1 * MB
    )
    with pytest.raises(EdgeqError, match="cannot be read"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ram_bytes", "ram_byte", "unknown key 'ram_byte'; did you mean ram_bytes"),
        ("clock_mhz = 64\n", "", "lacks the key clock_mhz"),
        ("64", '"64"', "clock_mhz = '64' is not a whole number above 0"),
        ("64\n", "64.0\n", "clock_mhz = 64.0 is not a whole number"),
        ("64\n", "true\n", "clock_mhz = True is not a whole number"),
        ("262_144", "-1", "ram_bytes = -1 is not"),
        ('["int8 x int8"]', '"int8"', "formats = 'int8' is not a list of texts"),
        ('["int8 x int8"]', "[]", "is not a list of texts"),
        ('"tflm"', '"tlfm"', "runtime 'tlfm' is none of"),
        ('"board"', '"bord"', "named like its file"),
        ('"data sheet"', '""', "source = '' is not a text"),
        ("name =", "name", "is not TOML"),
    ],
)
def test_bad_profiles(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    (tmp_path / "board.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(EdgeqError) as caught:
        load(tmp_path / "board.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "board.toml"))


def test_fits_says_what_of_how_much() -> None:
    board = load("stm32f469")
    good = fits(board, 96 * KB, 54 * KB)
    assert good.ok
    assert good.sentences[0] == "flash: 96 KB of 2,048 KB"
    assert good.sentences[1].startswith("RAM: arena 54 KB of 384 KB, estimate: measured on ")
    assert not fits(board, 2 * MB + 1, 54 * KB).flash
    assert fits(board, 2 * MB + 1).sentences[0] == "flash: 2,049 KB of 2,048 KB, does not fit"
    big = fits(board, 96 * KB, 384 * KB + 1)
    assert (big.flash, big.ram, big.ok) == (True, False, False)
    assert "385 KB of 384 KB, does not fit" in big.sentences[1]
    assert good.amounts == ("96 KB of 2,048 KB", "54 KB of 384 KB")
    assert big.amounts == ("96 KB of 2,048 KB", "385 KB of 384 KB")


def test_an_unknown_arena_speaks_neither_for_nor_against() -> None:
    fit = fits(load("stm32f469"), 96 * KB)
    assert fit.ram is None
    assert fit.ok
    assert fit.sentences[1] == "RAM: arena unknown, the device has 384 KB"
    assert fit.amounts == ("96 KB of 2,048 KB", "unknown")
    assert fits(load("phone"), 900 * MB, 54 * KB).sentences[0] == "flash: no limit"


def test_profiles_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load("phone").ram_bytes = 1  # type: ignore[misc]


def test_a_profile_that_would_hang_or_overflow_is_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "digits.toml").write_text(f"ram_bytes = {'9' * 5000}\n")
    (tmp_path / "obey.toml").write_text('name = "\\u001b[2J"\n')
    for name in ("pipe", "digits", "obey"):
        with pytest.raises(EdgeqError) as caught:
            load(tmp_path / f"{name}.toml")
        assert str(caught.value).isprintable()
