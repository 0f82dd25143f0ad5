"""One contestant in a process of its own, so that the operating system can tell its peak memory.

``python -m benchmarks.worker CASE CONTESTANT``: prints one line of JSON when ready, then one for
every line it reads, ``forward`` or ``gradient``: the seconds that took and the peak so far.
"""

import json
import pathlib
import sys
import time

from benchmarks.cases import CASES, make
from benchmarks.contestants import CONTESTANTS


def kernel_bytes(file: str, field: str) -> int:
    """A line of Linux's reports such as ``VmHWM:  123 kB``."""
    fields = dict(
        line.split(":") for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines()
    )
    return 1024 * int(fields[field].split()[0])


def memory_limit() -> float:
    """Bytes that this process may use: most of what is free now."""
    return 0.8 * kernel_bytes("/proc/meminfo", "MemAvailable")


def peak() -> int:
    return kernel_bytes("/proc/self/status", "VmHWM")


def forget_peak() -> None:
    """The compiler's memory, or the interpreter's, is not the contestant's."""
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def answer(line: dict) -> None:
    print(json.dumps(line), flush=True)


def main(case_name: str, contestant_name: str) -> None:
    case = CASES[case_name]
    try:
        inputs = make(case)
        runs, report = CONTESTANTS[contestant_name](case, *inputs, memory_limit())
        forget_peak()
        answer({"report": report, "start_bytes": peak()})
        for line in sys.stdin:
            start = time.perf_counter()
            runs[line.strip()]()
            answer({"seconds": time.perf_counter() - start, "peak_bytes": peak()})
    except (MemoryError, RuntimeError, ImportError) as error:  # torch raises RuntimeError
        answer({"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
