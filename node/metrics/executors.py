"""What the page for Prometheus says of the processes that read: the node, and its workers on a PostgreSQL."""

from collections.abc import Iterator, Mapping, Sequence

from ainode.node.keeping.executors import Executor, Executors
from ainode.node.keeping.readership import Readership, lost_workers
from ainode.node.metrics.exposition import Family, Sample, gauge


def executor_families(executors: Executors, readership: Readership, handlers: Sequence[str]) -> Iterator[Family]:
    """Yield the metrics of each living process, of lost workers, and of each handler; `handlers` are the routes'.

    Raises: DatabaseUnavailable.
    """
    processes = executors.all()
    living = [process for process in processes if not process.is_dead]
    words = "Seconds since the last beat of the node and of each worker; none on SQLite, where the node is alone."
    yield gauge(
        "ainode_executor_beat_age_seconds",
        words,
        [Sample(process.beat_age_s, _labels(process)) for process in living],
    )
    words = "With which handlers the node and each worker read; always 1."
    samples = [
        Sample(1, {**_labels(process), "handler": handler}) for process in living for handler in process.handlers
    ]
    yield gauge("ainode_executor_reads", words, samples)
    counts = readership.reading_counts() if living else {}
    samples = [Sample(counts.get(process.id, 0), _labels(process)) for process in living]
    yield gauge("ainode_executor_readings", "Studies that the node and each worker read now.", samples)
    yield _lost(processes)
    yield from _of_handlers(living, readership.waiting_counts(), handlers)


def _lost(processes: Sequence[Executor]) -> Family:
    samples = [
        Sample(1, {"name": worker.name, "machine": worker.host, "handler": handler})
        for worker in lost_workers(processes)
        for handler in worker.handlers
    ]
    words = "Workers that ended without being asked to and did not come back, by handler, for a day; always 1."
    return gauge("ainode_worker_lost", words, samples)


def _of_handlers(living: Sequence[Executor], counts: Mapping[str, int], handlers: Sequence[str]) -> Iterator[Family]:
    samples = [Sample(counts.get(handler, 0), {"handler": handler}) for handler in handlers]
    yield gauge("ainode_handler_waiting", "Readings that wait for a handler.", samples)
    # Without a row of its own the process that answers is the only one, and reads with all.
    reader_counts = [sum(handler in process.handlers for process in living) if living else 1 for handler in handlers]
    samples = [Sample(count, {"handler": handler}) for handler, count in zip(handlers, reader_counts, strict=True)]
    yield gauge("ainode_handler_readers", "Processes, node and workers, that read with a handler.", samples)


def _labels(process: Executor) -> dict[str, str]:
    return {"name": process.name, "kind": process.kind, "machine": process.host}
