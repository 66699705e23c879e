"""Bytes at their places in open files: all that was asked for, or an error.

The calls that only some operating systems have are used where they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from threading import Lock
from typing import IO

COPY_CHUNK = 8 * 2**20
"""Bytes held while a copy passes through memory."""

seeking = Lock()
"""Held while a file's own position is moved, where the system reads and writes at no other."""

_NOT_SUPPORTED = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def allocate(stream: IO[bytes], size: int) -> None:
    """Take the disk space now, so that a full disk is met before anything is written.

    Where the system cannot, the file gets its size alone.
    """
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        _check_lacking(error)
        stream.truncate(size)


def read_exactly(source: IO[bytes], view: memoryview, position: int) -> None:
    """Fill a buffer from a position of a file on.

    Raises
    ------
    OSError
        If the file ends before.
    """
    if read_at(source.fileno(), view, position) < len(view):
        raise OSError(errno.EIO, "a file became shorter while it was read")


def read_at(descriptor: int, view: memoryview, position: int) -> int:
    """Fill `view` (of bytes) from a position of a file; returns how many there were to read."""
    done = _read_some(descriptor, view, position)
    while 0 < done < len(view):
        count = _read_some(descriptor, view[done:], position + done)
        if count == 0:
            break
        done += count
    return done


def _read_some(descriptor: int, view: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], position)
    if hasattr(os, "pread"):  # macOS before 11
        chunk = os.pread(descriptor, len(view), position)
    else:  # Windows: the position is the file's, so one at a time
        with seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            chunk = os.read(descriptor, len(view))
    view[: len(chunk)] = chunk
    return len(chunk)


def write_exactly(target: IO[bytes], content: bytes | memoryview, position: int) -> None:
    """Write bytes to a position of a file; the system may take them in parts."""
    view = memoryview(content)
    while len(view):
        count = os.pwrite(target.fileno(), view, position)
        if count == 0:
            raise OSError(errno.EIO, "nothing more can be written")
        view, position = view[count:], position + count


def copy_exactly(
    source: IO[bytes], start: int, target: IO[bytes], position: int, length: int
) -> None:
    """Copy bytes from file to file, inside the operating system where it can."""
    while length:
        count = _copy_inside(source, start, target, position, length)
        if count == 0:
            count = min(COPY_CHUNK, length)
            chunk = bytearray(count)
            read_exactly(source, memoryview(chunk), start)
            write_exactly(target, memoryview(chunk), position)
        start, position, length = start + count, position + count, length - count


def _copy_inside(
    source: IO[bytes], start: int, target: IO[bytes], position: int, length: int
) -> int:
    try:
        return os.copy_file_range(source.fileno(), target.fileno(), length, start, position)
    except (AttributeError, OSError) as error:
        _check_lacking(error)
        return 0


def _check_lacking(error: AttributeError | OSError) -> None:
    """Raise an error unless it says that the system, or the file system, lacks a call."""
    if isinstance(error, OSError) and error.errno not in _NOT_SUPPORTED:
        raise error


def settle(stream: IO[bytes]) -> None:
    """Wait until what was written is on the disk; a full one may tell of it only then."""
    stream.flush()
    os.fsync(stream.fileno())


def drop_pages(path: Path) -> None:
    """Give back the memory in which the system holds a file that is on the disk, where it can.

    Who writes many files pushes everything else out of memory, and new pages are dearer than
    those that were in use just before: on virtual machines several times what a copy costs.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with contextlib.suppress(OSError), path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def settle_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
