from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.token_server.asgi import Server
from tests.unit.token_server.fakes import keystone


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path, keystone)
