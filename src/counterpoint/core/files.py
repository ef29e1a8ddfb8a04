"""Files that are there whole or not at all: written beside their place, then renamed;
and folders that one process at a time changes.

What is written stands in ``.NAME.HOST-PID-N.part`` until it is whole. A process that is
killed leaves such a file behind; the next one of the same machine that writes into the
folder removes it.
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
"""In a folder that a process is changing."""

_HOST = re.sub(r"\W", "_", platform.node())

_PART = re.compile(r"\..+\.(?P<host>\w*)-(?P<pid>\d+)-\d+\.part")

_NUMBERS = itertools.count()


def beside(path: Path) -> Path:
    """A name for what will take the place of ``path``; what killed processes have left
    in its folder is removed."""
    for entry in os.scandir(path.parent) if path.parent.is_dir() else ():
        if _is_stale(entry.name):
            _remove(Path(entry))
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{next(_NUMBERS)}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to: it takes the place of ``path`` when the block
    ends well, also if the machine then goes down, and is removed when it does not.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was at ``path``
            is as it was.
    """
    part = beside(path)
    try:
        with _naming(path, part):
            yield part
            _sync(part)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system can, and the file is in its place
        _sync(path.parent)


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was at ``path``
            is as it was.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there: all of it at once, as far as others
    see."""
    if path.is_dir() and not path.is_symlink():
        gone = beside(path)
        os.replace(path, gone)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, whole or not at all.

    Raises:
        OSError: as ``write``.
    """
    with _naming(path, path), path.open("ab", buffering=0) as file:
        size = file.tell()
        if file.write(content) != len(content):  # the rest found no room
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder, made where there is none, that no other process may lock meanwhile; the
    same process may do so again.

    The lock ends with the process, however that ends.

    Raises:
        BlockingIOError: another process has locked it.
    """
    from filelock import FileLock, Timeout

    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"another process is changing {folder}; wait until it ends, or choose another folder"
        ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def is_vacant(folder: Path, but: str = "") -> bool:
    """Whether a folder is not there, or holds nothing but empty folders, a lock,
    unfinished files of killed processes, and files called ``but``."""
    return all(
        name in (LOCK, but) or _PART.fullmatch(name)
        for _, _, names in os.walk(folder)
        for name in names
    )


def _is_stale(name: str) -> bool:
    """Whether a name is that of an unfinished file whose process, of this machine, has
    ended."""
    found = _PART.fullmatch(name)
    if (
        found is None or found["host"] != _HOST or os.name != "posix"
    ):  # elsewhere the question would end the process
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is still there and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _naming(path: Path, written: Path) -> Iterator[None]:
    """Let errors of the system that concern ``written`` name ``path``, and say what to
    do."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(written), written):
            raise
        room = (
            "; free space and run the same again"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else ""
        )
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}; what was there is intact{room}"
        ) from error


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Let one process at a time make a file; the others wait.

    Where one dies, the next goes on.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}{LOCK}")
    with FileLock(lock):
        yield
        lock.unlink(missing_ok=True)
