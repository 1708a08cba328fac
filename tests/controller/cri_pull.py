"""Pull an image as the kubelet does with an imagePullSecret: CRI's PullImage on containerd's socket.

    cri_pull.py SOCKET IMAGE [DOCKERCONFIGJSON]

DOCKERCONFIGJSON is a file with the secret's decoded text; without it, no credentials are sent. Prints the
image's reference. If the pull is refused, exits with 1 and prints the runtime's message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cri_api
import grpc


def main() -> int:
    """Pull, and print what the runtime answers."""
    socket, image, *secret = sys.argv[1:]
    request = cri_api.PullImageRequest(image=cri_api.ImageSpec(image=image))
    if secret:
        server = image.partition("/")[0]
        entry = json.loads(Path(secret[0]).read_text())["auths"][server]
        request.auth.username = entry["username"]
        request.auth.password = entry["password"]
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        service = cri_api.ImageServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = service.PullImage(request, timeout=60)
        except grpc.RpcError as error:
            print(error.details(), file=sys.stderr)
            return 1
    print(answer.image_ref)
    return 0


if __name__ == "__main__":
    sys.exit(main())
