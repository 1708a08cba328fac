"""The registry's own metrics: which requests are in flight (distribution's ``http.debug.prometheus``)."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import Unavailable

_PREFIX = "registry_http_"
_IN_FLIGHT = "registry_http_in_flight_requests"
_TIMEOUT = 5.0


class NotListening(Unavailable):
    """Nothing listens at the address of the metrics."""


@dataclass(frozen=True, slots=True)
class RegistryMetrics:
    """One reading. ``in_flight`` counts requests by handler. ``lines`` are all values about requests.

    Two equal readings say that no request began or ended between them.
    """

    in_flight: Mapping[str, float]
    lines: frozenset[str]

    @property
    def busy(self) -> bool:
        """Whether the registry works on any request."""
        return any(self.in_flight.values())

    @classmethod
    def parse(cls, text: str) -> RegistryMetrics:
        """Read Prometheus' text format. Raises ValueError if it isn't that."""
        # here: sysreg-deploy and the agent need it now and then, and it takes 50 ms
        from prometheus_client.parser import text_string_to_metric_families

        lines = [line for line in text.splitlines() if line.startswith(_PREFIX)]
        # To parse all lines takes 15 ms, and a drain reads the metrics 20 times a second.
        gauges = "\n".join(line for line in lines if line.startswith(_IN_FLIGHT))
        samples = [sample for family in text_string_to_metric_families(gauges) for sample in family.samples]
        return cls({sample.labels.get("handler", ""): sample.value for sample in samples}, frozenset(lines))


def fetch(address: HostPort, path: str = "/metrics", *, timeout: float = _TIMEOUT) -> RegistryMetrics:
    """Read the metrics at ``address``. ``timeout`` is in seconds.

    Raises NotListening, and Unavailable if what answers there shows no metrics of a registry.
    """
    connection = http.client.HTTPConnection(address.reachable.host, address.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        metrics = RegistryMetrics.parse(response.read().decode("utf-8", "replace"))
    except ConnectionRefusedError:
        raise NotListening(f"nothing listens at the registry's debug address {address}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the registry's debug address {address}: {error}") from None
    except ValueError:
        raise Unavailable(f"{address}{path} shows no metrics") from None
    finally:
        connection.close()
    if response.status != 200 or not metrics.in_flight:
        raise Unavailable(
            f"{address}{path} shows no requests in flight",
            next_step="set http.debug.prometheus in the registry's config.yml, as sysreg-deploy does",
        )
    return metrics
