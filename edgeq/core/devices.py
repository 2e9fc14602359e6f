"""Device profiles: one TOML file each in ``targets/``, and whether a file fits. KB is 1,024 bytes, MB 1,024 KB."""

from __future__ import annotations

import difflib
import platform
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError

MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Device:
    """What is known of a device. ``flash_bytes`` is None where storage is no limit (an SD card)."""

    name: str  # the file's stem
    title: str
    core: str
    clock_mhz: int
    ram_bytes: int
    runtime: str  # of edgeq.runtimes: which kernels it runs
    formats: tuple[str, ...]  # weights x activations that its kernels take
    source: str  # the data sheet
    flash_bytes: int | None = None
    notes: str = ""


@dataclass(frozen=True)
class Fit:
    """Whether a file fits a device. ``ram`` is None where the arena is not known. ``sentences`` are to be printed; ``amounts``: what a
    table has room for, of flash and of RAM."""

    flash: bool
    ram: bool | None
    sentences: tuple[str, str]
    amounts: tuple[str, str]

    @property
    def ok(self) -> bool:
        """Nothing that is known speaks against it."""
        return self.flash and self.ram is not False


def load(name: str | Path) -> Device:
    """The profile ``name``, or that of a ``.toml`` file. Raises :class:`EdgeqError`, with the nearest name for an unknown one."""
    path = Path(name)
    if path.suffix != ".toml":
        known = {p.stem: p for p in _folder().glob("*.toml")}
        path = known[plugins.choose("device", str(name), sorted(known))]
    return _read(path)


def all_devices() -> list[Device]:
    """Every profile, by name."""
    return [_read(path) for path in sorted(_folder().glob("*.toml"))]


def fits(device: Device, file_bytes: int, arena_bytes: int | None = None) -> Fit:
    """Flash from the size of the file, RAM from the arena that TensorFlow Lite Micro takes on this host.

    Both leave the rest of the firmware out. Pointers of 8 bytes make the host's arena an upper estimate of a microcontroller's.
    """
    flash, stored, no = True, "no limit", ", does not fit"
    if device.flash_bytes is not None:
        flash, stored = file_bytes <= device.flash_bytes, _size(file_bytes, device.flash_bytes)
    if arena_bytes is None:
        unknown = f"RAM: arena unknown, the device has {_amount(device.ram_bytes)}"
        return Fit(flash, None, (f"flash: {stored}{'' if flash else no}", unknown), (stored, "unknown"))
    ram, taken = arena_bytes <= device.ram_bytes, _size(arena_bytes, device.ram_bytes)
    measured = f"RAM: arena {taken}{'' if ram else no}, estimate: measured on {_machine()}"
    return Fit(flash, ram, (f"flash: {stored}{'' if flash else no}", measured), (stored, taken))


def _folder() -> Path:
    """``edgeq/devices`` in an installed wheel, ``targets`` beside the package in a checkout."""
    package = Path(str(resources.files("edgeq")))
    for folder in (package / "devices", package.parent / "targets"):
        if folder.is_dir():
            return folder
    raise EdgeqError(f"{package}: its device profiles are missing; install edgeq again")


def _read(path: Path) -> Device:
    try:
        if path.exists() and not path.is_file():
            raise EdgeqError(f"{path}: is no plain file, and so no device profile")
        if path.stat().st_size > MAX_BYTES:
            raise EdgeqError(f"{path}: is larger than {MAX_BYTES >> 10} KB, no device profile")
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # no TOML, no text, or a number of a thousand digits
        raise EdgeqError(f"{path}: is not TOML ({error})") from None
    known = [f.name for f in fields(Device)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise EdgeqError(
                f"{path}: has the unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else "keys: " + ", ".join(known))
            )
    for field in fields(Device):
        _check(path, field.name, str(field.type), values, required=field.name not in ("flash_bytes", "notes"))
    if values["name"] != path.stem:
        raise EdgeqError(f"{path}: its name is {values['name']!r}; a profile is named like its file")
    if values["runtime"] not in (known := plugins.names(plugins.RUNTIMES)):
        raise EdgeqError(f"{path}: runtime {values['runtime']!r} is none of " + ", ".join(known))
    return Device(**{**values, "formats": tuple(values["formats"])})


def _check(path: Path, key: str, kind: str, values: dict[str, Any], required: bool) -> None:
    if key not in values:
        if required:
            raise EdgeqError(f"{path}: lacks the key {key}")
        return
    value = values[key]
    if kind.startswith("int"):
        right, wanted = type(value) is int and 0 < value < 2**53, "a whole number above 0 and below 2^53"
    elif kind.startswith("tuple"):
        right, wanted = isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value), "a list of texts"
    else:
        right, wanted = isinstance(value, str) and (bool(value) or not required), "a text"
    if not right:
        raise EdgeqError(f"{path}: {key} = {repr(value)[:60]} is not {wanted}")


def _size(part: int, whole: int) -> str:
    return f"{_kb(part)} KB of {_amount(whole)}"


def _amount(size: int) -> str:
    return f"{size / 2**30:g} GB" if size >= 2**30 else f"{_kb(size)} KB"


def _kb(size: int) -> str:
    """Whole KB, rounded up: a file that does not fit must not look as if it did."""
    return f"{-(-size // 1024):,}"


def _machine() -> str:
    return platform.machine().replace("_", "-") or "this host"
