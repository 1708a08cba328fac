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
    """One reading. ``in_flight`` counts requests by handler; ``samples`` holds all values about requests.

    Two readings with equal ``samples`` say that no request began or ended between them.
    """

    in_flight: Mapping[str, float]
    samples: frozenset[tuple[str, frozenset[tuple[str, str]], float]]

    @property
    def busy(self) -> bool:
        """Whether the registry works on any request."""
        return any(self.in_flight.values())

    @classmethod
    def parse(cls, text: str) -> RegistryMetrics:
        """Read Prometheus' text format. Raises ValueError if it isn't that."""
        # here: sysreg-deploy and the agent need it now and then, and it takes 50 ms
        from prometheus_client.parser import text_string_to_metric_families

        samples = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(_PREFIX)
        ]
        return cls(
            in_flight={s.labels.get("handler", ""): s.value for s in samples if s.name == _IN_FLIGHT},
            samples=frozenset((s.name, frozenset(s.labels.items()), s.value) for s in samples),
        )


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
        raise Unavailable(f"{address}{path} shows no requests in flight")
    return metrics
