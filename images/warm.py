"""Import what runs in an image, for its build: a package that the lock forgot ends the build, not a run.

What is imported is compiled on the way, so that tasks start quickly although their root is read-only. But for the sampler's image nothing
else is compiled.

    python warm.py FOLDER MODULE...      # FOLDER goes on the path; of a package below it all modules are imported
"""

import importlib
import os
import sys
from pathlib import Path

# A task imports kfp in this mode, in which it needs none of its dependencies.
os.environ["_KFP_RUNTIME"] = "true"


def main(root: Path, modules: list[str]) -> None:
    """Import everything.

    Args:
        root: Folder that is on the import path.
        modules: Names of modules and packages, there or installed.
    """
    sys.path.insert(0, str(root))
    for name in modules:
        files = sorted((root / name.replace(".", "/")).rglob("*.py"))
        inner = [".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files]
        for module in inner or [name]:
            # A KFP component is for the compiler only.
            if not module.endswith((".__main__", ".component")):
                importlib.import_module(module)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
