"""The store on etcd, through its JSON gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sysreg_cli.cluster.gateway import Document, below, encode
from sysreg_cli.cluster.port import EPOCH, Delete, Entry, Expected, Identity, Listing, Put
from sysreg_cli.cluster.servers import Access, Limits, Servers
from sysreg_cli.cluster.watching import EtcdWatch, entry_of
from sysreg_cli.errors import Changed, NotFound


class EtcdStore:
    """See ``port.Store``."""

    def __init__(self, access: Access, limits: Limits | None = None) -> None:
        """Read the TLS files, and connect to nothing yet. Raises SettingsError."""
        self._servers = Servers(access, limits or Limits())

    def get(self, key: str) -> Entry | None:
        answer = self._servers.call("kv/range", {"key": encode(key)}, f"read {key}")
        entries = [entry_of(item) for item in answer.get("kvs") or ()]
        return entries[0] if entries else None

    def list(self, prefix: str) -> Listing:
        # one transaction, so that the epoch is that of the same moment
        reads = [{"request_range": below(prefix)}, {"request_range": {"key": encode(EPOCH)}}]
        answer = self._servers.call("kv/txn", {"success": reads}, f"list {prefix}")
        found, epoch = (
            [entry_of(item) for item in (part.get("response_range") or {}).get("kvs") or ()]
            for part in answer["responses"]
        )
        header = answer["header"]
        identity = Identity(str(header["cluster_id"]), epoch[0].value.decode() if epoch else "")
        return Listing({entry.key: entry for entry in found}, int(header["revision"]), identity)

    def transact(self, expected: Sequence[Expected], writes: Sequence[Put | Delete]) -> int:
        compare = [
            {"key": encode(condition.key), "target": "MOD", "mod_revision": str(condition.revision)}
            for condition in expected
        ]
        body = {"compare": compare, "success": [_operation(write) for write in writes]}
        answer = self._servers.call_once("kv/txn", body, f"write {', '.join(write.key for write in writes)}")
        if not answer.get("succeeded"):
            keys = ", ".join(condition.key for condition in expected)
            raise Changed(f"somebody else has changed {keys} meanwhile", next_step="try again")
        return int(answer["header"]["revision"])

    def watch(self, prefix: str, listing: Listing) -> EtcdWatch:
        return EtcdWatch(self._servers, prefix, listing)

    def lease(self, seconds: int) -> int:
        return int(self._servers.call("lease/grant", {"TTL": str(seconds)}, "grant a lease")["ID"])

    def keep(self, lease: int) -> bool:
        # the answer is a stream of one message; one without a TTL says that the lease has ended
        answer = self._servers.call("lease/keepalive", {"ID": str(lease)}, "keep a lease")
        return int((answer.get("result") or {}).get("TTL", 0)) > 0

    def revoke(self, lease: int) -> None:
        try:
            self._servers.call("lease/revoke", {"ID": str(lease)}, "revoke a lease")
        except NotFound:
            return  # it has ended by itself

    def close(self) -> None:
        """Close the connections. Watches are closed one by one."""
        self._servers.close()


def _operation(write: Put | Delete) -> Document:
    if isinstance(write, Delete):
        return {"request_delete_range": {"key": encode(write.key)}}
    put: dict[str, Any] = {"key": encode(write.key), "value": encode(write.value)}
    if write.lease:
        put["lease"] = str(write.lease)
    return {"request_put": put}
