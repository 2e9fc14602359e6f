"""A worker process: takes works from its parent and sends back what comes of each, until the parent has had enough, or is gone.

Started as ``python -m edgeq.runs.executors._worker LIFE SOCKET`` with two inherited descriptors: a pipe whose other end closes when this
process shall die, and a socket. The first message is the :class:`~edgeq.runs.executors.kit.Kit`, each further one a work; both are pickled
by the parent. A reply is ``("item", value)`` as often as there is one, then ``("end", None)`` or ``("error", exception)``.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from multiprocessing.connection import Connection

from edgeq.core.children import die_with_parent
from edgeq.runs.executors.kit import Kit


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    parent = Connection(int(sys.argv[2]))
    try:
        kit: Kit = pickle.loads(parent.recv_bytes())
        with kit.elsewhere() as bench:
            while True:
                content = parent.recv_bytes()
                try:
                    for item in pickle.loads(content)(bench):
                        parent.send(("item", item))
                except Exception as error:
                    parent.send(("error", sendable(error)))
                else:
                    parent.send(("end", None))
    except (EOFError, ConnectionError):  # the parent has had enough
        return


def sendable(error: Exception) -> Exception:
    """``error`` with its traceback as a note; of an exception that cannot be pickled what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note("".join(traceback.format_exc()))
    return error


if __name__ == "__main__":
    main()
