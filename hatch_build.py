"""Compiles the per-packet modules, those with a .pxd of their own beside them, where there is a C compiler.

They are Python that runs as it stands, too, at more CPU a call (bench/RESULTS.md), so a build without a compiler says
so and goes on. `pip install` calls this by way of hatchling, for a wheel as for an editable checkout; there the results
lie beside their sources.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # types stand in the .pxd: an annotation `int` would mean Python's object here
    "binding": False,
}


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before anything is packed."""
        try:
            compiled = compile_all(Path(self.root))
        except (Exception, SystemExit) as error:  # whatever the compiler said, the sources run without it
            print(f"sipagent: not compiled, runs as plain Python: {error}", file=sys.stderr)
            return
        build_data["artifacts"] += [f"/{path}" for path in compiled]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_all(root: Path) -> list[str]:
    """The paths of what was made, from `root` on."""
    # Neither is there in every environment that reads this file.
    from Cython.Build import cythonize
    from setuptools import Extension
    from setuptools.dist import Distribution

    package, build = root / "sipagent", root / "build" / "compiled"
    for stale in package.rglob("*.so"):
        stale.unlink()
    sources = [pxd.with_suffix(".py") for pxd in sorted(package.rglob("*.pxd")) if pxd.stem != "native"]
    extensions = [
        Extension(
            ".".join(source.relative_to(root).with_suffix("").parts),
            [str(source.relative_to(root))],
            include_dirs=[str(package)],
            extra_compile_args=["-O2", "-g0", "-w"],
        )
        for source in sources
    ]
    made = cythonize(extensions, build_dir=str(build), force=True, compiler_directives=DIRECTIVES, quiet=True)
    command = Distribution({"name": "sipagent", "ext_modules": made}).get_command_obj("build_ext")
    command.inplace, command.force, command.build_temp, command.parallel = True, True, str(build), 2
    command.ensure_finalized()
    command.run()
    return sorted(str(path.relative_to(root)) for path in package.rglob("*.so"))


if __name__ == "__main__":
    print("\n".join(compile_all(Path(__file__).parent.resolve())))
