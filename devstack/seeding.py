"""Many repositories at once, written into the registry's storage as it would have stored them itself.

Pushing thousands would take minutes. Each gets the layout of one repository that was really pushed: a
manifest without blobs would not do, because 2.8 lists a repository only once it has held a blob.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from devstack import images
from devstack.controller import Controller
from devstack.registry import USER


def seed(controller: Controller, names: Iterable[str], tag: str = "latest") -> None:
    """Lay down every repository of ``names`` with one tag on the same small image."""
    model = "seeding/model"
    controller.client().push(model, tag, images.single(seed="seeding"))
    root = controller.storage / "docker/registry/v2/repositories"
    for name in names:
        for part in ("_layers", "_manifests"):
            shutil.copytree(root / model / part, root / name / part)
    shutil.rmtree(root / model.partition("/")[0])
    subprocess.run(["chown", "-R", f"{USER}:", str(root)], check=True)
