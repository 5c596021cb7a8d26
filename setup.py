"""Builds the scheduler's kernel.

CELLCLOUD_REQUIRE_EXT=1 makes a failed build fatal; CELLCLOUD_EXT_DEBUG=1 builds with bounds checks.
"""

import os

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("CELLCLOUD_EXT_DEBUG") == "1"
REQUIRED = os.environ.get("CELLCLOUD_REQUIRE_EXT") == "1"

extension = Extension(
    "cellcloud._fastsched",
    ["cellcloud/_fastsched.pyx"],
    include_dirs=[np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=["-O0", "-g"] if DEBUG else ["-O3"],
    optional=not REQUIRED,
)

setup(
    ext_modules=cythonize(
        [extension],
        build_dir="build/cython",
        compiler_directives={
            "language_level": "3",
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "initializedcheck": DEBUG,
            "cdivision": True,
        },
    )
)
