"""Builds the scheduler's kernel: once for any machine, and on x86-64 once for each level of it that is worth it.

CELLCLOUD_REQUIRE_EXT=1 makes a failed build fatal; CELLCLOUD_EXT_DEBUG=1 builds with bounds checks;
CELLCLOUD_EXT_LEVELS names the levels, where they are not to be all ("": only for any machine).
"""

import os
import platform
import shutil
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("CELLCLOUD_EXT_DEBUG") == "1"
REQUIRED = os.environ.get("CELLCLOUD_REQUIRE_EXT") == "1"
KNOWN = "v3 v4" if platform.machine() in ("x86_64", "AMD64") else ""
LEVELS = os.environ.get("CELLCLOUD_EXT_LEVELS", KNOWN).split()
FAST = ["-O3", "-g0", "-ffp-contract=off", "-fno-signed-zeros", "-ffinite-math-only", "-fno-trapping-math"]
FAST += ["--param=max-completely-peel-times=15"]  # GCC takes loops of FAN steps apart before it could vectorise them
SOURCE = Path("cellcloud/_fastsched.pyx")
PARTS = sorted(map(str, Path("cellcloud").glob("_fastsched_*.pxi")))


def extension(level: str) -> Extension:
    """Return the kernel for a level of x86-64; "" for any machine. All are the same source."""
    source = SOURCE
    if level:
        source = Path("build/kernel") / f"_fastsched_{level}.pyx"
        source.parent.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            shutil.copy2(part, source.parent)
        shutil.copy2(SOURCE, source)
    return Extension(
        f"cellcloud.{source.stem}",
        [str(source)],
        include_dirs=[np.get_include()],
        depends=PARTS,
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=(["-O0", "-g"] if DEBUG else FAST) + ([f"-march=x86-64-{level}"] if level else []),
        optional=not REQUIRED,
    )


setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        [extension(level) for level in ("", *LEVELS)],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": "3",
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
        },
    ),
)
