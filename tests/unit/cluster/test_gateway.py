"""What the client of etcd makes of an answer that is cut off."""

from __future__ import annotations

import socket
import threading

import pytest
import urllib3

from sysreg_cli.cluster.gateway import NoAnswer, lines

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"3\r\n{}\n\r\n", b"9\r\n{}", b"5"])
def test_a_stream_that_ends_in_the_middle_says_so(sent: bytes) -> None:
    """A server that is killed ends its streams like this."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(_HEAD + sent)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with (
            urllib3.PoolManager() as pool,
            pool.request("GET", url, preload_content=False) as response,
            pytest.raises(NoAnswer) as caught,
        ):
            list(lines(response, 5))
        thread.join()
    assert str(caught.value) == "it ended the connection in the middle of an answer"
