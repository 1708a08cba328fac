"""Run `system`, and append each HTTP request to a file: its method, target, and the status of the response.

python -m tests.functional.images.counted FILE ARGUMENTS...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sysreg_cli.cli import start
from sysreg_cli.registry.transport import Transport


def main() -> None:
    path = Path(sys.argv.pop(1))
    request = Transport.request

    def recorded(self: Transport, method: str, target: str, **options: Any) -> Any:
        response = request(self, method, target, **options)
        with path.open("a") as file:
            file.write(f"{method} {target} {response.status}\n")
        return response

    Transport.request = recorded  # type: ignore[method-assign]
    start.main()


if __name__ == "__main__":
    main()
