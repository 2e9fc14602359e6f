"""Where the units of a run are done: in this process, in others on this machine, or on a Dask cluster.

An executor maps units to what comes of them and writes nothing: the one writer is :func:`edgeq.runs.execute.execute`. On integer runtimes
the rows are the same bits whatever the executor; the threads and the batch that gradients depend on are fixed by the
:class:`~edgeq.runs.executors.kit.Kit`.
"""
