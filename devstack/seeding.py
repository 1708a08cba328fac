"""Write many repositories into the registry's storage, as the registry would have stored them.

Pushing thousands would take minutes. Each is a copy of one repository that was pushed. A manifest without
blobs would not do: 2.8 lists a repository only if it has held a blob.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from devstack import images
from devstack.controller import Controller
from devstack.programs import REGISTRY_USER


def seed(controller: Controller, names: Iterable[str], tag: str = "latest") -> None:
    """Make every repository of ``names``, each with one tag on the same small image."""
    model = "seeding/model"
    controller.client().push(model, tag, images.single(seed="seeding"))
    root = controller.paths.storage / "docker/registry/v2/repositories"
    for name in names:
        for part in ("_layers", "_manifests"):
            shutil.copytree(root / model / part, root / name / part)
    shutil.rmtree(root / model.partition("/")[0])
    subprocess.run(["chown", "-R", f"{REGISTRY_USER}:", str(root)], check=True)
