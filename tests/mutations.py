"""Breaks the library in the ways of `mutations.toml` and shows that the tests notice every one.

    python tests/mutations.py                   # all of them; fails if one survives
    python tests/mutations.py --only NAME ...   # some
    python tests/mutations.py --write           # and store what was run in tests/mutations.md

Each mutation replaces one piece of text in a copy of the library, never in the checkout, and runs a
few tests on the copy, which must fail by what they assert. A mutation that raises an exception
instead, such as a NameError, proves nothing and is reported as invalid.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "mutations.toml"
TABLE = ROOT / "tests" / "mutations.md"
HEADER = "| mutation | file | first test to fail | seconds |\n|---|---|---|--:|"
TIMEOUT = 1200  # seconds for the tests of one mutation: a loop may have lost its end


class Mutation(NamedTuple):
    name: str
    file: str
    old: str  # occurs exactly once
    new: str
    tests: tuple[str, ...]  # the fewest and quickest that should notice


MUTATIONS = tuple(
    Mutation(name, entry["file"], entry["old"], entry["new"], tuple(entry["tests"]))
    for name, entry in tomllib.loads(LIST.read_text()).items()
)


class Result(NamedTuple):
    passed: bool
    invalid: str  # why the run proves nothing, or ""
    test: str  # the first that failed
    seconds: float  # of processor time, so that other programs on the machine do not count
    output: str


def mutated(source: str, mutation: Mutation) -> str:
    """The text of the file with the mutation in it."""
    count = source.count(mutation.old)
    if count != 1:
        raise SystemExit(
            f"{mutation.name}: its old text occurs {count} times in {mutation.file}, not once"
        )
    return source.replace(mutation.old, mutation.new)


def environment(copy: Path, scratch: Path) -> dict[str, str]:
    """Has the copy imported, and unchanged programs compiled once."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Before site-packages, where an editable installation points at the checkout.
        "PYTHONPATH": str(copy),
        # Two mutations of a file may have the same length and time.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_tests(copy: Path, scratch: Path, tests: tuple[str, ...]) -> Result:
    """Runs tests on the copy, up to the first that fails."""
    report = scratch / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--junit-xml={report}", *(f"tests/library/{test}" for test in tests)]
    before = os.times()
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment(copy, scratch),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return Result(False, "ran out of time", "", TIMEOUT, "")
    after = os.times()
    seconds = sum(getattr(after, kind) - getattr(before, kind) for kind in CHILDREN_TIMES)
    output = done.stdout + done.stderr
    if done.returncode == 0:
        return Result(True, "", "", seconds, output)
    invalid, test = first_failure(report)
    return Result(False, invalid, test, seconds, output)


CHILDREN_TIMES = ("children_user", "children_system")


def first_failure(report: Path) -> tuple[str, str]:
    """Why it is none by an assertion, or "", and the name of the test."""
    if not report.exists():
        return "no test ran", ""
    for case in ElementTree.parse(report).iter("testcase"):
        for problem in case:
            test = case.get("name", "")
            message = problem.get("message", "")
            # A script that a test ran may have died of another exception.
            asserted = re.match(r"assert |AssertionError|Failed: ", message)
            if problem.tag == "failure" and asserted and "Traceback" not in message:
                return "", test
            if problem.tag in ("failure", "error"):
                return message.splitlines()[0] if message else problem.tag, test
    return "no test ran", ""


def stored_rows() -> dict[str, str]:
    """The rows of the stored table by the name of their mutation."""
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if ".py`" in line}


def write(rows: dict[str, str]) -> None:
    """Stores rows, with those of other mutations that the table has already."""
    found = stored_rows() | rows
    table = [found[mutation.name] for mutation in MUTATIONS if mutation.name in found]
    caught = sum("**" not in line for line in table)
    TABLE.write_text(
        "# Mutations\n\nWritten by `python tests/mutations.py --write`; `mutations.toml` says what "
        "each one changes. Seconds\nare of processor time, most for imports and compiling.\n\n"
        f"{caught} of {len(MUTATIONS)} mutations caught.\n\n{HEADER}\n" + "\n".join(table) + "\n"
    )


def row(mutation: Mutation, result: Result) -> str:
    if result.passed:
        caught = "**survived**"
    elif result.invalid:
        caught = f"**invalid**: {result.invalid}"
    else:
        caught = f"`{result.test}`"
    return f"| {mutation.name} | `{mutation.file}` | {caught} | {result.seconds:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="The names are those that --list prints."
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these mutations")
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    parser.add_argument("--write", action="store_true", help=f"store the rows in {TABLE.name}")
    arguments = parser.parse_args()

    known = {mutation.name: mutation for mutation in MUTATIONS}
    unknown = set(arguments.only or ()) - set(known)
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}; see --list")
    chosen = [known[name] for name in arguments.only or known]
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.file:18} {mutation.name}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return check(chosen, Path(folder), arguments.write)


def check(chosen: list[Mutation], scratch: Path, store: bool) -> int:
    """Runs the mutations and prints the table; 0 if the tests caught all."""
    copy = scratch / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("rmi_jax", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    library = copy / "rmi_jax"
    changed = {m.name: mutated((library / m.file).read_text(), m) for m in chosen}

    imported = subprocess.run(
        [sys.executable, "-c", "import rmi_jax; print(rmi_jax.__file__)"],
        cwd=scratch,
        env=environment(copy, scratch),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert imported == str(library / "__init__.py"), f"tests would import {imported}"

    tests = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
    result = run_tests(copy, scratch, tests)
    if not result.passed:
        print(result.output, "The tests must pass before anything is broken.", sep="\n")
        return 1
    total = result.seconds
    print(f"{len(tests)} tests pass on the library as it is, {total:.0f} s of processor time.\n")

    print(HEADER, flush=True)
    rows, missed = {}, []
    for mutation in chosen:
        file = library / mutation.file
        original = file.read_text()
        file.write_text(changed[mutation.name])
        result = run_tests(copy, scratch, mutation.tests)
        file.write_text(original)
        total += result.seconds
        rows[mutation.name] = row(mutation, result)
        print(rows[mutation.name], flush=True)
        if result.passed or result.invalid:
            missed.append(mutation.name)
    summary = (
        f"{len(chosen) - len(missed)} of {len(chosen)} mutations caught; "
        f"{total / 60:.0f} minutes of processor time, those of the library as it is included."
    )
    print(f"\n{summary}")
    if missed:
        print("Not caught:", "; ".join(missed))
    if store:
        write(rows)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
