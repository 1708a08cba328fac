"""What a worker's credential can do: every call of etcd, on everything that is not the worker's own."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from devstack.etcd import programs
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.gateway import below, encode
from sysreg_cli.cluster.joining import host_rights, host_user
from sysreg_cli.cluster.keys import CERTIFICATE, DESIRED, Part, host_key
from sysreg_cli.cluster.membership import access
from sysreg_cli.cluster.port import EPOCH, PREFIX, Put, User
from sysreg_cli.cluster.users import EtcdAdministration
from tests.deployed_etcd import DeployedEtcd, deployed_etcd
from tests.etcd_cluster import RELEASES


class Answer(enum.Enum):
    """How etcd answers a user who has no right to it."""

    REFUSED = "refused"
    #: whoever has a certificate may do it: docs/behaviour.rst, "etcd"
    OPEN = "open"
    ABSENT = "absent"


_OWN, _OTHER = "worker3", "worker4"
_ROLE = host_user(_OWN)
#: the lease that keeps another host alive; the number is only known when the test runs
_LEASE = "the lease of another host"
_FOREIGN = encode(host_key(_OTHER, Part.STATUS))
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "KV/Range": ("kv/range", {"key": _FOREIGN}),
    "KV/Put": ("kv/put", {"key": _FOREIGN}),
    "KV/DeleteRange": ("kv/deleterange", dict(below(PREFIX))),
    "KV/Txn": ("kv/txn", {"success": [{"request_put": {"key": encode(CERTIFICATE)}}]}),
    "Watch/Watch": ("watch", {"create_request": dict(below(f"{PREFIX}hosts/"))}),
    "Lease/LeaseRevoke": ("lease/revoke", {"ID": _LEASE}),
    "Cluster/MemberAdd": ("cluster/member/add", {"peerURLs": ["https://127.0.0.1:1"]}),
    "Cluster/MemberRemove": ("cluster/member/remove", {"ID": "1"}),
    "Cluster/MemberUpdate": ("cluster/member/update", {"ID": "1", "peerURLs": ["https://127.0.0.1:1"]}),
    "Cluster/MemberPromote": ("cluster/member/promote", {"ID": "1"}),
    "Maintenance/Defragment": ("maintenance/defragment", {}),
    "Maintenance/HashKV": ("maintenance/hash", {}),
    "Maintenance/Snapshot": ("maintenance/snapshot", {}),
    "Auth/AuthEnable": ("auth/enable", {}),
    "Auth/AuthDisable": ("auth/disable", {}),
    "Auth/UserAdd": ("auth/user/add", {"name": "x", "password": "x"}),
    "Auth/UserGet": ("auth/user/get", {"name": "root"}),
    "Auth/UserList": ("auth/user/list", {}),
    "Auth/UserDelete": ("auth/user/delete", {"name": "root"}),
    "Auth/UserChangePassword": ("auth/user/changepw", {"name": "root", "password": "x"}),
    "Auth/UserGrantRole": ("auth/user/grant", {"user": _ROLE, "role": "root"}),
    "Auth/UserRevokeRole": ("auth/user/revoke", {"name": "root", "role": "root"}),
    "Auth/RoleAdd": ("auth/role/add", {"name": "x"}),
    "Auth/RoleGet": ("auth/role/get", {"role": "root"}),
    "Auth/RoleList": ("auth/role/list", {}),
    "Auth/RoleDelete": ("auth/role/delete", {"role": "root"}),
    "Auth/RoleGrantPermission": (
        "auth/role/grant",
        {"name": _ROLE, "perm": {"permType": "READWRITE", **below(PREFIX)}},
    ),
    "Auth/RoleRevokePermission": ("auth/role/revoke", {"role": _ROLE, "key": encode(EPOCH)}),
    "Lock/Lock": ("lock/lock", {"name": _FOREIGN, "lease": _LEASE}),
    "Lock/Unlock": ("lock/unlock", {"key": _FOREIGN}),
    "Election/Campaign": ("election/campaign", {"name": _FOREIGN, "lease": _LEASE, "value": "eA=="}),
    "Election/Proclaim": ("election/proclaim", {"leader": {"name": _FOREIGN, "key": _FOREIGN, "rev": "1"}}),
    "Election/Leader": ("election/leader", {"name": _FOREIGN}),
    "Election/Observe": ("election/observe", {"name": _FOREIGN}),
    "Election/Resign": ("election/resign", {"leader": {"name": _FOREIGN, "key": _FOREIGN, "rev": "1"}}),
}
OPEN: dict[str, tuple[str, dict[str, Any]]] = {
    "KV/Compact": ("kv/compaction", {"revision": "1"}),
    "Lease/LeaseGrant": ("lease/grant", {"TTL": "1"}),
    "Lease/LeaseKeepAlive": ("lease/keepalive", {"ID": _LEASE}),
    "Lease/LeaseLeases": ("lease/leases", {}),
    "Lease/LeaseTimeToLive": ("lease/timetolive", {"ID": _LEASE, "keys": True}),
    "Cluster/MemberList": ("cluster/member/list", {}),
    "Maintenance/Alarm": ("maintenance/alarm", {}),
    "Maintenance/Status": ("maintenance/status", {}),
    "Maintenance/MoveLeader": ("maintenance/transfer-leadership", {"targetID": "1"}),
    "Maintenance/Downgrade": ("maintenance/downgrade", {}),
    "Auth/AuthStatus": ("auth/status", {}),
    # a login with the name and the password of somebody
    "Auth/Authenticate": ("auth/authenticate", {"name": "root", "password": "x"}),
}
#: where the releases differ from OPEN
_EXCEPT = {
    "bookworm": {"Auth/AuthStatus": Answer.ABSENT, "Maintenance/Downgrade": Answer.ABSENT},
    "trixie": {"Auth/AuthStatus": Answer.REFUSED, "Lease/LeaseTimeToLive": Answer.REFUSED},
}
#: not in the gateway at all: gRPC asks for a certificate, too, and refuses it as it does HashKV
_WITHOUT_GATEWAY = ("Maintenance/Hash",)
_PLACES = {
    "/v2/keys/": Answer.ABSENT,
    "/v2/members": Answer.ABSENT,
    "/v2/stats/self": Answer.ABSENT,
    "/v2/auth/users": Answer.ABSENT,
    "/debug/pprof/": Answer.ABSENT,
    "/debug/requests": Answer.ABSENT,
    "/debug/vars": Answer.OPEN,
    # 3.4 lets everybody with a certificate set the level of its log here
    "/config/local/log": Answer.ABSENT,
    "/metrics": Answer.OPEN,
    "/health": Answer.OPEN,
    "/version": Answer.OPEN,
}


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def etcd(release: str) -> Iterator[DeployedEtcd]:
    with deployed_etcd(release) as etcd:
        yield etcd


class Thief:
    """Somebody with the certificate and the password of a worker."""

    def __init__(self, etcd: DeployedEtcd) -> None:
        self.address = f"https://{etcd.settings.listen}"
        reached = access(etcd.settings)
        self.root = EtcdStore(reached)
        user = User(host_user(_OWN), "a random password")
        EtcdAdministration(reached).put_user(user, host_rights(_OWN))
        self.lease = self.root.lease(600)
        alive = Put(host_key(_OTHER, Part.ALIVE), b"{}", self.lease)
        values = [Put(key, b"{}") for key in (CERTIFICATE, host_key(_OTHER, Part.STATUS))]
        self.root.transact([], [alive, *values, *(Put(host_key(_OWN, part), b"{}") for part in Part)])
        self._token = ""
        self._pool = urllib3.PoolManager(ssl_context=reached.tls.context(), retries=False)
        login = {"name": user.name, "password": user.password}
        self._token = json.loads(self.post("auth/authenticate", login)[1])["token"]

    def post(self, path: str, body: Any) -> tuple[int, str]:
        """Return status, and the first piece of the answer. A stream may have no end."""
        text = json.dumps(body).replace(f'"{_LEASE}"', f'"{self.lease}"')
        headers = {"Authorization": self._token} if self._token else {}
        answer = self._pool.request(
            "POST", f"{self.address}/v3/{path}", body=text, headers=headers, preload_content=False, timeout=10
        )
        with answer:
            piece = next(answer.stream(65536), b"")
        return answer.status, piece.decode()

    def outcome(self, path: str, body: Any) -> Answer:
        status, text = self.post(path, body)
        # Observe says nothing at all
        if not text or re.search("permission denied|PermissionDenied|user name is empty", text):
            return Answer.REFUSED
        return Answer.ABSENT if status in (404, 501) else Answer.OPEN

    def get(self, path: str) -> tuple[int, str]:
        answer = self._pool.request("GET", f"{self.address}{path}", timeout=10)
        return answer.status, answer.data.decode()


@pytest.fixture(scope="module")
def thief(etcd: DeployedEtcd) -> Thief:
    return Thief(etcd)


def test_the_table_has_every_call_of_etcd(release: str) -> None:
    program = (programs(release) / "etcd").read_bytes()
    found = re.findall(rb"/(?:etcdserverpb|v3lockpb|v3electionpb)\.([A-Z]\w+/[A-Z]\w+)", program)
    known = (*REFUSED, *OPEN, *_WITHOUT_GATEWAY)
    # the texts of a Go program stand side by side, so some words go on into the next one
    assert {name for name in map(bytes.decode, found) if not name.startswith(known)} == set()
    assert len(found) >= 45


def test_every_call_on_what_is_not_its_own_is_refused(thief: Thief, release: str) -> None:
    def everything() -> Any:
        return thief.root.list("/").entries

    before = everything()
    refused = {name: thief.outcome(path, body) for name, (path, body) in REFUSED.items()}
    assert {name: answer for name, answer in refused.items() if answer is not Answer.REFUSED} == {}
    found = {name: thief.outcome(path, body) for name, (path, body) in OPEN.items()}
    assert found == dict.fromkeys(OPEN, Answer.OPEN) | _EXCEPT[release]
    assert everything() == before


@pytest.mark.parametrize("key", [CERTIFICATE, EPOCH, host_key(_OWN, Part.SPEC), host_key(_OTHER, Part.ALIVE)])
def test_every_other_key_is_refused(thief: Thief, key: str) -> None:
    for path, body in (
        ("kv/put", {"key": encode(key)}),
        ("kv/deleterange", {"key": encode(key)}),
        ("kv/txn", {"success": [{"request_delete_range": {"key": encode(key)}}]}),
        ("kv/txn", {"failure": [{"request_put": {"key": encode(key)}}], "success": []}),
        ("lock/lock", {"name": encode(key)}),
    ):
        assert thief.outcome(path, body) is Answer.REFUSED, path


def test_it_reads_what_is_desired_and_nothing_else(thief: Thief) -> None:
    readable = {DESIRED: below(DESIRED), EPOCH: {"key": encode(EPOCH)}}
    for part in (Part.STATUS, Part.ALIVE):
        readable[host_key(_OWN, part)] = {"key": encode(host_key(_OWN, part))}
    for body in readable.values():
        assert thief.outcome("kv/range", body) is Answer.OPEN
    for body in (below(PREFIX), below("/"), {"key": "AA==", "range_end": "AA=="}):
        assert thief.outcome("kv/range", body) is Answer.REFUSED


def test_what_etcd_serves_beside_its_calls_holds_no_secret(thief: Thief, etcd: DeployedEtcd) -> None:
    password = access(etcd.settings).password()
    for path, expected in _PLACES.items():
        status, text = thief.get(path)
        assert (status in (404, 405)) is (expected is Answer.ABSENT), (path, status)
        assert password not in text, path
        assert "PRIVATE KEY" not in text, path
