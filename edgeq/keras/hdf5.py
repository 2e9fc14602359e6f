"""HDF5 files from outside: read by a process of its own, within limits, into a plain copy that Keras may read.

The HDF5 library is native code that crashes on some damaged files, and takes gigabytes on others. So here it opens files of this module's
own writing alone: the process checks what a file declares, reads its arrays, and writes them to a new file without links, filters and
anything else that Keras has no use for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.core import children
from edgeq.core.errors import EdgeqError, sentence

BYTES = 2 << 30
"""The most weights a file may declare, in bytes: a frozen TensorFlow graph cannot hold more."""
PACKED = 16
"""How many times its own size a file may unpack to: weights are close to random."""
TEXT, LINKS = 8 << 20, 20_000
"""Bytes of attributes, and arrays and groups."""
MEMORY = 3 << 27
"""Bytes of memory that the process may take beside the weights."""
WAIT = 60.0
"""Seconds by the clock beside the processor time: after these it is stopped, or starved."""
_BESIDE = {"model_config", "training_config"}  # read as texts, and of no use beside the weights


def plain(path: Path, file: Path, copy: Path) -> tuple[dict[str, str], int]:
    """Writes the arrays of the HDF5 file ``file`` to the new file ``copy``. Returns its text attributes, and how many numbers it stores.

    ``path``: who to blame in errors. Raises :class:`EdgeqError` for links, for more than is stored, and for what is damaged.
    """
    life, alive = os.pipe()
    try:
        command, env = children.python_child("edgeq.keras.hdf5", str(life), str(path), str(file), str(copy))
        seconds = _seconds(file.stat().st_size)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            pass_fds=[life],
            start_new_session=True,
            timeout=WAIT + 4 * seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise EdgeqError(f"{path}: it was not read in {error.timeout:.0f} s; try again on a machine that is less busy") from None
    except OSError as error:
        raise EdgeqError(f"{path}: no process can be started to read it ({error.strerror})") from None
    finally:
        os.close(life)
        os.close(alive)
    if done.returncode == -signal.SIGPROF:
        raise EdgeqError(f"{path}: it takes more than {seconds:.3g} s of processor time to read; it is damaged, get it again")
    if done.returncode == -signal.SIGKILL:
        raise EdgeqError(f"{path}: the process that reads it was killed, as the system does when memory runs out; free some memory")
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        how = children.signal_name(-done.returncode) if done.returncode < 0 else f"exit status {done.returncode}"
        raise EdgeqError(f"{path}: damaged (the HDF5 library crashed on it, {how}); get the file again") from None
    if "error" in reply:
        raise EdgeqError(reply["error"])
    return reply["texts"], reply["numbers"]


def no_copy(path: str | Path, copy: Path, reason: str | None) -> EdgeqError:
    return EdgeqError(
        f"{path}: its weights cannot be copied to {copy.parent.parent} ({reason}); free some space there, or set TMPDIR to another place"
    )


def _seconds(size: int) -> float:
    return 2 + size / 2**20


def main(life: str, path: str, file: str, copy: str) -> None:
    """The process's side."""
    children.die_with_parent(int(life))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but the reply may reach the parent
    try:
        from edgeq.keras.engine import need

        h5py = need("h5py")  # before the clock runs
        size = os.stat(file).st_size
        most = min(BYTES, (1 << 20) + PACKED * size)
        bound = children.limit(MEMORY + most, write=True)
        children.limit_cpu(_seconds(size))
        try:
            reply = _copied(h5py, path, file, copy, most)
        except MemoryError:
            reply = {"error": f"{path}: it takes more than {bound / 2**30:.2g} GiB of memory to read; it is damaged, get it again"}
    except EdgeqError as error:
        reply = {"error": str(error)}
    json.dump(reply, replies)
    replies.flush()
    os._exit(0)  # the library may crash on a damaged file when it closes it; all is said


def _copied(h5py: Any, path: str, file: str, copy: str, most: int) -> dict[str, Any]:
    try:
        with h5py.File(file, "r") as source:
            items = {name: _read(h5py, item) for name, item in _items(h5py, path, source, most)}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SystemError, OverflowError) as error:
        raise EdgeqError(f"{path}: damaged or cut short ({sentence(error)}); get the file again") from None
    if sum(_bytes(value) for attributes, _ in items.values() for value in attributes.values()) > TEXT:
        raise EdgeqError(f"{path}: its model configuration is larger than {TEXT >> 20} MiB; that is no network for edgeq")
    texts = {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in items["/"][0].items() if isinstance(v, bytes | str)}
    try:
        with h5py.File(copy, "w", libver="latest") as target:
            for name, (attributes, values) in items.items():
                made = target.require_group(name) if values is None else target.create_dataset(name, data=values)
                made.attrs.update({k: v for k, v in attributes.items() if k not in _BESIDE})
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        raise no_copy(path, Path(copy), os.strerror(number) if number else sentence(error)) from None
    return {"texts": texts, "numbers": sum(int(values.size) for _, values in items.values() if values is not None)}


def _items(h5py: Any, path: str, file: Any, most: int) -> Iterator[tuple[str, Any]]:
    """The groups and arrays of a file, each before those inside it; all that it declares is checked first."""
    links: list[tuple[str, Any]] = []

    def visit(name: str, link: Any) -> bool | None:  # an error raised in here would crash h5py
        links.append((name, link))
        return True if len(links) > LINKS else None

    if file.visititems_links(visit):
        raise EdgeqError(f"{path}: it holds more than {LINKS:,} arrays; that is no network for edgeq")
    total, items = 0, [("/", file)]
    for name, link in links:
        if not isinstance(link, h5py.HardLink):
            raise EdgeqError(f"{path}: {name} is a link to another place or file, which is not followed; save the network again")
        items.append((name, item := file[name]))
        if not isinstance(item, h5py.Dataset):
            continue
        if item.external or item.is_virtual:
            raise EdgeqError(f"{path}: {name} keeps its data in another file, which is not read; save the network again")
        if item.dtype.kind not in "fiub":
            raise EdgeqError(f"{path}: {name} contains no numbers ({item.dtype}); it is damaged, get it again")
        total += item.size * item.dtype.itemsize
        if total > most:
            raise EdgeqError(
                f"{path}: it declares more than {most / (1 << 30):.2g} GiB of weights, {PACKED} times its own size or more; "
                "that is no network for edgeq"
            )
    yield from items


def _read(h5py: Any, item: Any) -> tuple[dict[str, Any], Any]:
    """The attributes of an item that are texts or lists of them, and its values; None for a group."""
    import numpy as np

    attributes = {}
    for name in item.attrs:
        value = item.attrs[name]
        if isinstance(value, str | bytes) or (isinstance(value, np.ndarray) and all(isinstance(v, str | bytes) for v in value.flat)):
            attributes[name] = value
    return attributes, np.asarray(item[()]) if isinstance(item, h5py.Dataset) else None


def _bytes(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else sum(map(len, value.flat))


if __name__ == "__main__":
    main(*sys.argv[1:])
