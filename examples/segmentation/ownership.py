"""A run writes only to a folder of its own, and no two runs write to it at the same time.

The mark of a run's folder is its file `run.lock`, which stays there. While a run works it holds a
lock on that file, which the operating system takes back when the process ends, however it ends.
It holds across machines where the file system passes such locks on, as NFS (but for `nolock`
mounts), SMB and Lustre with `-o flock` do; on others at least among the processes of one machine.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segmentation import writing

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "run.lock"
FILES = (LOCK, "config.yaml", "classes.json", "history.jsonl", "report.html")
FOLDERS = ("checkpoints", "tensorboard")  # are the run's, with all that is in them
FAR = 1 << 30  # the byte that is locked on Windows, where nobody can read what is locked
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Busy(RuntimeError):
    """Another run is at work in the folder."""


def check(folder: Path) -> None:
    """Raises `writing.ForeignFile` where a run's output would meet somebody else's."""
    writing.check(*(folder / name for name in FILES))
    for name in FOLDERS:
        if os.path.lexists(folder / name) and not (folder / LOCK).exists():
            raise writing.ForeignFile(
                f"{folder / name}: is in the way, and not of a run of this program. It stays as it "
                "is: choose another --output"
            )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this run alone.

    Raises:
      ForeignFile: something there was not written by a run. Nothing has been written then.
      Busy: another run is at work there.
    """
    check(folder)
    folder.mkdir(parents=True, exist_ok=True)
    writing.append(folder / LOCK, "")
    with (folder / LOCK).open("r+", encoding="utf-8") as file:
        if not _lock(file, folder):
            owner = file.read().strip() or "another process"
            raise Busy(f"{folder} is in use: {owner}. Wait for its end, or choose another --output")
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        yield


def _lock(file: IO[str], folder: Path) -> bool:
    """Whether the file is now locked by this process, or cannot be locked at all."""
    try:
        if sys.platform == "win32":
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter over some networks, and on Windows
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        message = f"{folder} cannot be locked ({error}): nothing keeps a second run out of it"
        print(message, file=sys.stderr, flush=True)
    finally:
        file.seek(0)
    return True
