"""What continuous integration checks, one session each.

    nox --list
    nox -s lint types

Most sessions run in the environment that nox runs in, which has the extras test, torch, dev and
docs. `newest`, `floors` and `colab` make clean ones, with the wheel that `package` builds;
`accelerators` and `integrations` ones with packages that nothing else needs.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

nox.options.sessions = [
    *("package", "lint", "types", "docs", "torch", "strict", "x64", "long", "examples"),
    *("accelerators", "newest", "floors", "colab", "notebook"),
]
nox.options.default_venv_backend = "venv"
nox.options.stop_on_first_error = True
nox.options.error_on_missing_interpreters = False  # skipped, with a message

os.environ.update(JAX_PLATFORMS="cpu", MPLBACKEND="Agg", PIP_DISABLE_PIP_VERSION_CHECK="1")
os.environ["PIP_NO_COMPILE"] = "1"  # most modules of a large environment are never imported
# A red run is then about the change; RMI_JAX_SEED=$RANDOM searches elsewhere.
os.environ.setdefault("RMI_JAX_SEED", "0")

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
DIST = Path(".nox/dist")

# For what is there to run rather than to run fast.
UNOPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
STRICT = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
ON_ALL_CORES = ("--numprocesses", "auto")
# A file of few slow tests is shared by all processes, too.
TEST_BY_TEST = (*ON_ALL_CORES, "--dist", "load")


def library(names):
    """The files of tests of the library with these names."""
    return [f"tests/library/test_{name}.py" for name in names.split()]


# What depends on versions and number types; the rest of the suite runs once.
CORE = library("golden transforms export import schedules sharding spatial_sharding validation")
LONG = library("filtered_truths")
WEEKLY = [
    "tests/library/conformance",
    "tests/project/test_mutations.py",
    *library("anchor engine export filtered_truths golden identities long_run losses properties"),
    *library("sharding spatial_sharding"),
]


@nox.session(python=False)
def readme(session):
    """The README's test command, as it stands there; makes .venv."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", Path("README.md").read_text(), re.M | re.S)
    session.run("bash", "-euxo", "pipefail", "-c", blocks[1])


@nox.session(python=False)
def package(session):
    """Builds the wheel and the sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST), silent=True)
    session.run("twine", "check", "--strict", *map(str, DIST.iterdir()))
    # The tests in the sdist need nothing that is not in it.
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(sdist, folder, filter="data")
        with session.chdir(Path(folder) / sdist.name.removesuffix(".tar.gz")):
            session.run("pytest", "--collect-only", "-q", silent=True)


@nox.session(python=False)
def lint(session):
    """Style."""
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=False)
def types(session):
    """Types, of the library and of all that calls it."""
    session.run("pyright")


@nox.session(python=False)
def docs(session):
    """The pages; their code is run by the README's test command."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "sphinx", "-W", "-q", "docs", folder, env=UNOPTIMIZED)


@nox.session(python=False)
def torch(session):
    """Parity with PyTorch."""
    session.run("pytest", *TEST_BY_TEST, "-m", "torch")


@nox.session(python=False)
def strict(session):
    """Strict promotion of ranks and types."""
    files = library("losses metrics spatial_sharding")
    session.run("pytest", *ON_ALL_CORES, *files, env=STRICT)


@nox.session(python=False)
def x64(session):
    """Core tests with 64-bit types on for everything; what is named float64 always has them on."""
    files = library("golden transforms export import schedules")
    session.run("pytest", *ON_ALL_CORES, *files, "-k", "not float64", env={"JAX_ENABLE_X64": "1"})


@nox.session(python=False)
def long(session):
    """Long tests, but for those of the weekly session."""
    session.run("pytest", *TEST_BY_TEST, "-m", "slow", *LONG)


@nox.session(python=False)
def weekly(session):
    """Mutations, and the long tests left out elsewhere: two hours of processor time."""
    env = {"RMI_JAX_FULL_SEARCH": "1"}
    session.run("pytest", *TEST_BY_TEST, "-m", "slow", *WEEKLY, env=env)
    session.run("pytest", *TEST_BY_TEST, "tests/library/conformance/test_values.py", env=STRICT)
    session.run("pytest", *TEST_BY_TEST, "-m", "examples and slow")
    session.run("python", "tests/mutations.py")


@nox.session(python=False)
def examples(session):
    """The example scripts. Processes share compiled programs."""
    with tempfile.TemporaryDirectory() as programs:
        env = {**UNOPTIMIZED, "JAX_COMPILATION_CACHE_DIR": programs}
        session.run(
            "pytest", *ON_ALL_CORES, "--durations=10", "-m", "examples and not slow", env=env
        )


@nox.session(python="3.11")
def accelerators(session):
    """Programs compiled for TPUs and GPUs without one."""
    session.install("--quiet", "--editable", ".[test,accelerators]")
    session.run("pytest", "-m", "accelerators", "tests/library/test_accelerators.py")


@nox.session(python="3.11")
def integrations(session):
    """The recipes of docs/integrations.md, on the packages themselves."""
    session.install("--quiet", "--editable", ".[integrations]")
    # Which ask for packages that no recipe needs.
    session.install("--quiet", "--no-deps", "keras-hub", "kauldron")
    session.run("pytest", "-m", "integrations", "tests/project/test_integrations.py")


def install_wheel(session, *options):
    """Installs the wheel that `package` has built, and what its tests need."""
    wheels = list(DIST.glob("*.whl"))
    if not wheels:
        session.error("there is no wheel: nox -s package")
    session.install("--quiet", *options, f"{wheels[0]}[test]")


def constraints(session, packages=None):
    """The floors of pyproject.toml as options of pip; of an extra where it asks for more."""
    extras = PROJECT["optional-dependencies"]
    floors = {}
    for requirements in (
        PROJECT["dependencies"],
        *map(extras.get, ("examples", "brain", "study", "test")),
    ):
        floors.update(r.split(">=") for r in requirements if not r.startswith("rmi-jax"))
    file = Path(session.create_tmp()) / "floors.txt"
    file.write_text("".join(f"{name}=={floors[name]}\n" for name in packages or floors))
    return "--constraint", str(file)


def print_versions(session):
    """Prints the versions that the session runs on."""
    versions = "import sys, jax, flax; print(sys.version, 'jax', jax.__version__, flax.__version__)"
    session.run("python", "-c", versions)


def core_tests(session):
    """Runs what depends on versions."""
    print_versions(session)
    session.run("pytest", *ON_ALL_CORES, *CORE)
    examples = [f"tests/examples/test_example_{name}.py" for name in ("data", "pipeline")]
    session.run("pytest", "-m", "examples", *examples)


@nox.session(python="3.13")
def newest(session):
    """Core tests on the newest versions."""
    install_wheel(session, "--upgrade")
    core_tests(session)


@nox.session(python="3.11")
def floors(session):
    """Core tests on the oldest versions that are supported."""
    install_wheel(session, *constraints(session))
    core_tests(session)


# Not all of the floors install on Python 3.13.
@nox.session(python="3.13")
def colab(session):
    """The notebook, and tests with 64-bit types, on Python 3.13 with the floors of JAX and Flax."""
    install_wheel(session, *constraints(session, ("jax", "jaxlib", "flax")))
    print_versions(session)
    files = library("transforms export schedules")
    session.run("pytest", *ON_ALL_CORES, *files, env={"JAX_ENABLE_X64": "1"})
    run_notebook(session)


@nox.session(python=False)
def notebook(session):
    """The notebook, where there is no Python 3.13 for `colab`."""
    if subprocess.run("python3.13 --version", shell=True, capture_output=True).returncode == 0:
        session.skip("colab runs it")
    run_notebook(session)


def run_notebook(session):
    """Runs the notebook with few steps of training."""
    env = {**UNOPTIMIZED, "RMI_JAX_NOTEBOOK_INSTALL": "no", "RMI_JAX_NOTEBOOK_STEPS": "20"}
    session.run("pytest", "--nbmake", "examples/quickstart.ipynb", env=env)
