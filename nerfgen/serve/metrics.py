"""Figures of the running service in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nerfgen.serve.service import Service

# Upper bounds of the time of an answer, seconds.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = {"GET", "POST", "PUT", "DELETE"}


class Metrics:
    """Counts answers, and reads the rest from the service when it is asked for."""

    MEDIA_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nerfgen_requests",
            "Answers by path, method and status; status 0: the connection ended first.",
            ["path", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "nerfgen_request_seconds",
            "Time from a request to its answer.",
            ["path", "method"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Reader(service))

    def watch(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; see :class:`nerfgen.serve.guard.Guard`."""
        method = method if method in _METHODS else "other"
        self._requests.labels(path, method, status).inc()
        self._seconds.labels(path, method).observe(seconds)

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)


class _Reader(Collector):
    """What the queue, the tasks and the store say of themselves."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        """Nothing in advance: the names are distinct."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures at the moment."""
        service, statistics = self._service, self._service.queue.statistics
        for name, text, value in (
            ("views", "Rendered views.", statistics.views),
            ("batches", "Batches of views.", statistics.batches),
            ("rays", "Rendered rays.", statistics.rays),
            ("busy_seconds", "Time of rendering.", statistics.busy_seconds),
            ("refused", "Renderings that a full queue refused.", statistics.refused),
            ("expired", "Renderings whose deadline passed while they waited.", statistics.expired),
        ):
            yield CounterMetricFamily(f"nerfgen_{name}", text, value)
        for name, text, value in (
            ("ready", "Whether requests are served.", service.is_ready),
            ("queue_length", "Renderings that wait.", len(service.queue)),
            ("tasks", "Fits, personalisations and meshes that wait or run.", len(service.jobs)),
            ("models_loaded", "Models in memory.", sum(each["loaded"] for each in service.models())),
            ("personalisations", "Personalisations in memory.", len(service.owners)),
            ("personalisation_bytes", "Memory of all personalisations.", service.owners.nbytes),
        ):
            yield GaugeMetricFamily(f"nerfgen_{name}", text, value)
