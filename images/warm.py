"""Import every module of the stages in an image, for its build: a package that the lock forgot ends the build, not a run.

What is imported is compiled on the way, so that tasks start quickly although their root is read-only. But for the sampler's image nothing
else is compiled.

    python warm.py FOLDER MODULE...      # the modules under FOLDER, and further ones that the stages import late
"""

import importlib
import os
import sys
from pathlib import Path

# A task imports kfp in this mode, in which it needs none of its dependencies.
os.environ["_KFP_RUNTIME"] = "true"


def main(root: Path, late: list[str]) -> None:
    """Import everything.

    Args:
        root: Folder that is on the import path.
        late: Names of further modules.
    """
    sys.path.insert(0, str(root))
    files = sorted(root.rglob("*.py"))
    modules = [".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files]
    for module in [*modules, *late]:
        if not module.endswith("__main__"):
            importlib.import_module(module)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
