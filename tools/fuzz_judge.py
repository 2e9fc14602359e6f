"""Reads what strace says of damaged files' commands, line by line on stdin, and notes each that no copy may do.

Started by ``tools/fuzz_files.py``: ``python tools/fuzz_judge.py ROOT``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_WRITES = frozenset(
    ("unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link", "linkat", "symlink", "symlinkat")
) | {"truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "creat", "mknod", "mknodat", "utimensat", "execve"}
_CALL = re.compile(r"(\w+)\((.*?)(?:\) += (-?\d+).*| <unfinished \.\.\.>)?$")
_PATHS = re.compile(r'(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_BORN = re.compile(r"(?:clone3?|v?fork)\b.* = (\d+)$")
_HARMLESS = ("/proc/", "/sys/", "/dev/", "/etc/ld.so", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch", "/usr/", "/lib", "/etc/ssl")


def judge(root: str) -> None:
    """What no copy may do goes into ``root/violations.txt``. A process is a copy's from its first chdir into the copy's folder on, and so
    are those that it begins."""
    own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), *filter(None, sys.path))
    watched: dict[str, str] = {}  # process -> its working directory
    with open(Path(root) / "violations.txt", "w") as out:
        for line in sys.stdin:
            process, _, call = line.rstrip("\n").partition(" ")
            call = call.strip()
            if call.startswith('chdir("') and (folder := call.split('"')[1]).startswith(root + "/"):
                watched[process] = folder
            elif call.startswith("+++"):
                watched.pop(process, None)
            elif process in watched:
                if (born := _BORN.search(call)) is not None:
                    watched[born[1]] = watched[process]
                elif (wrong := _wrong(call, root, watched[process], own)) is not None:
                    out.write(f"{wrong}: {line}")
                    out.flush()


def _wrong(line: str, root: str, folder: str, own: tuple[str, ...]) -> str | None:
    if (found := _CALL.match(line)) is None or (found[3] or "0").startswith("-"):
        return None
    call, rest = found[1], found[2]
    opens = call in ("open", "openat")
    writes = call in _WRITES or (opens and re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest) is not None)
    for place, name in _PATHS.findall(rest) if writes or opens else ():
        path = os.path.normpath(os.path.join(place or folder, name))
        if writes and path != folder and not path.startswith((folder + "/", "/dev/", "/proc/self/task/")):
            return "written, or started"
        if not writes and ("canary" in path or not (path.startswith((root + "/", *own, *_HARMLESS)) or path in root)):
            return "read"
    return None


if __name__ == "__main__":
    judge(sys.argv[1])
