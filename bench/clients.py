"""The clients that `bench/commands.py` compares `system` with; each is run as a process of its own.

    python bench/clients.py bare|sequential

They take the registry and the credentials from the same environment as `system` does.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import queue
import re
import ssl
import sys
import threading
from typing import Any
from urllib.parse import urlencode, urlsplit

_BATCH = 32
_THREADS = 8


def _environment() -> tuple[str, str, str, str]:
    return tuple(  # type: ignore[return-value]
        os.environ[name] for name in ("SYSREG_REGISTRY", "SYSREG_REGISTRY_CA", "OS_USERNAME", "OS_PASSWORD")
    )


class _Connection:
    """One keep-alive connection of http.client."""

    def __init__(self, netloc: str, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection(netloc, context=context)

    def get(self, target: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request("GET", target, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()


def bare() -> int:
    """The requests of `registry-image-list --filter-out-untagged`, no more: 8 threads, keep-alive."""
    registry, ca_file, user, password = _environment()
    context = ssl.create_default_context(cafile=ca_file)
    basic = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    main = _Connection(registry, context)
    _, headers, _ = main.get("/v2/", {})
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', headers["WWW-Authenticate"]))
    realm = urlsplit(challenge["realm"])

    def bearer(server: _Connection, scopes: list[str]) -> dict[str, str]:
        query = urlencode([("service", challenge["service"]), *(("scope", scope) for scope in scopes)])
        _, _, body = server.get(f"{realm.path}?{query}", basic)
        return {"Authorization": "Bearer " + json.loads(body)["token"]}

    token = bearer(_Connection(realm.netloc, context), ["registry:catalog:*"])
    _, _, body = main.get("/v2/_catalog?n=1000", token)
    names = json.loads(body)["repositories"]
    batches: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    for start in range(0, len(names), _BATCH):
        batches.put(names[start : start + _BATCH])
    tagged: list[str] = []

    def work() -> None:
        server, client = _Connection(realm.netloc, context), _Connection(registry, context)
        while True:
            try:
                batch = batches.get_nowait()
            except queue.Empty:
                return
            token = bearer(server, [f"repository:{name}:pull" for name in batch])
            for name in batch:
                status, _, body = client.get(f"/v2/{name}/tags/list", token)
                if status == 200 and json.loads(body)["tags"]:
                    tagged.append(name)

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(sorted(tagged)))
    return len(tagged)


def sequential() -> int:
    """One repository after the other, each request on a new connection, a challenge and a token for each."""
    import requests

    registry, ca_file, user, password = _environment()

    def get(path: str) -> Any:
        url = f"https://{registry}{path}"
        refused = requests.get(url, verify=ca_file, timeout=60)
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
        words = {"service": challenge["service"], "scope": challenge["scope"]}
        answer = requests.get(
            challenge["realm"], params=words, auth=(user, password), verify=ca_file, timeout=60
        )
        bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
        return requests.get(url, headers=bearer, verify=ca_file, timeout=60)

    names = get("/v2/_catalog?n=1000").json()["repositories"]
    tagged = [name for name in names if get(f"/v2/{name}/tags/list").json().get("tags")]
    print("\n".join(sorted(tagged)))
    return len(tagged)


if __name__ == "__main__":
    {"bare": bare, "sequential": sequential}[sys.argv[1]]()
