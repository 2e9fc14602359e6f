"""What goes wrong, as one sentence and an exit code.

0: done. 1: a gate such as ``--fail-under`` was not met. 2: a wrong option or file, said in a sentence. 70: a fault of edgeq's own.
130: interrupted.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from edgeq.cli import streams
from edgeq.core.errors import EdgeqError

MACHINE: tuple[str, ...] = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST")
MACHINE += ("ENAMETOOLONG", "ELOOP", "ENOMEM", "EMFILE", "ENFILE")
"""Errors of the system that are the machine's or the user's to mend; any other is ours."""


@contextmanager
def sentences(debug: bool) -> Iterator[None]:
    """Ends the process for whatever is raised inside; with ``debug`` it comes through."""
    try:
        yield
    except SystemExit:
        raise
    except click.Abort:
        _stop(130, "interrupted", debug)
    except KeyboardInterrupt:
        _stop(130, "interrupted", debug)
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "edgeq")
        _stop(2, f"{error.format_message().rstrip('.')}; see {where} --help", debug)
    except EdgeqError as error:
        _stop(2, str(error), debug)
    except BrokenPipeError:  # the same, of what was still to be flushed
        streams.abandon(sys.stdout)
        sys.exit(0)
    except MemoryError:
        _stop(2, "the memory does not suffice; ask for less at once (fewer images, smaller batches, fewer --threads)", debug)
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) in MACHINE:
            reason = (error.strerror or "").lower()
            _stop(2, f"{error.filename or 'the disk or the output'}: {reason}; mend that and try again", debug)
        _stop(70, f"{error}; run again with --debug for the traceback", debug)
    except Exception as error:
        _stop(70, f"a fault in edgeq itself: {type(error).__name__}: {error}; run again with --debug for the traceback", debug)


def _stop(code: int, sentence: str, debug: bool) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        streams.abandon(sys.stdout)
    if debug:
        raise  # inside the handlers above
    streams.whisper(f"edgeq: {' '.join(sentence.split())}")
    sys.exit(code)
