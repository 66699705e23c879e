"""Products: each under its final name completely or not at all, several of them all or none."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from webbkg.errors import OutputError, WebbkgError
from webbkg.files import door, owners
from webbkg.files.disk import settle, settle_folder
from webbkg.files.naming import plain_ascii

Sealed = Callable[[Sequence[Path], Sequence[Path]], None]
"""Takes the files that are whole, and the names that they will have."""

MOST_NAMES = 3
"""Files that an error names; of more it tells the number."""

_LEFT_AFTER = 24 * 3600
"""Seconds after which an unfinished file belongs to nobody, whatever machine it is from."""

_UNFINISHED = re.compile(r"\.webbkg-(?P<machine>\w+)-(?P<pid>\d+)-[0-9a-f]{16}\.(partial|former)")


ENDINGS = (".fits", ".asdf")
"""Of products, which tell how they are written."""

TABLE = ".ecsv"
"""Ending of a table beside a product."""


def save_whole(model: Any, path: str | os.PathLike[str], inputs: Iterable[Path] = ()) -> Path:
    """Write a model under its final name, completely or not at all; see `save_all`."""
    return save_all([model], [Path(path)], inputs)[0]


def save_all(
    models: Sequence[Any],
    paths: Sequence[Path],
    inputs: Iterable[Path] = (),
    write: Callable[[Any, IO[bytes], Path], None] | None = None,
    sealed: Sealed | None = None,
) -> list[Path]:
    """Write models under their final names: all of them completely, or none.

    Parameters
    ----------
    models : sequence of data models
        What is to be written.
    paths : sequence of Path
        Where to write; the ending, ``.fits`` or ``.asdf``, says how. With `write` it may be that
        of a table.
    inputs : iterable of Path
        Files that must not be overwritten.
    write : callable, optional
        Takes a model, a file open for writing and the final name; by default `write_model`.
    sealed : callable, optional
        See `writing_whole`.

    Returns
    -------
    list of Path
        `paths`.

    Raises
    ------
    OutputError
        If a path is one of `inputs`, stands twice, has another ending, or cannot be written.
    """
    check_outputs(paths, inputs, ENDINGS if write is None else (*ENDINGS, TABLE))
    with writing_whole(paths, sealed) as partials:
        for model, path, partial in zip(models, paths, partials, strict=True):
            with partial.open("wb") as stream:
                (write or write_model)(model, stream, path)
                settle(stream)
    return list(paths)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make sure of a folder for products; environment variables and ``~`` are expanded.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    path = Path(os.path.expanduser(os.path.expandvars(folder)))  # noqa: PTH111 - no home: as it is
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path}: cannot be made ({reason}); choose another output_dir"
        ) from error
    return path


def write_model(model: Any, stream: IO[bytes], path: Path) -> None:
    """Let a model write itself to an open file, in the format that the name's ending tells.

    Its FILENAME becomes that name, escaped where no header can hold it.
    """
    model.meta.filename = plain_ascii(path.name)
    # What a damaged target says of itself may be readable and yet not writable.
    with door.reading(path, "the target's metadata cannot be written", passing=(OSError,)):
        # Given a stream, not a path, the model keeps the FILENAME that it has.
        if path.suffix == ".fits":
            model.to_fits(stream)
        else:
            model.to_asdf(stream)


def check_outputs(
    paths: Sequence[Path], inputs: Iterable[Path], endings: Sequence[str] = ENDINGS
) -> None:
    """Refuse names that no product can have.

    Parameters
    ----------
    paths : sequence of Path
        Names of products.
    inputs : iterable of Path
        Files that must not be overwritten.
    endings : sequence of str
        Which a name may have.

    Raises
    ------
    OutputError
        If one is an input, stands twice, or has another ending.
    """
    inputs = [other for other in inputs if door.exists(other)]
    for path in paths:
        if "\0" in str(path):
            raise OutputError(f"{str(path)!r}: no file can have this name; choose another")
        if path.suffix not in endings:
            raise OutputError(
                f"{path}: a product is written as .fits or .asdf; choose one of these"
            )
        if door.exists(path) and any(path.samefile(other) for other in inputs):
            raise OutputError(
                f"{path}: would overwrite an input of this run; "
                "choose another output_file, suffix or output_dir"
            )
    places = [os.path.realpath(path) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise OutputError(f"{path}: two products of this name; give each its own")


@contextlib.contextmanager
def writing_whole(paths: Sequence[Path], sealed: Sealed | None = None) -> Iterator[list[Path]]:
    """Give an empty file for each of `paths`; all take their names at the end, or none does.

    A path that is a symbolic link is followed: the file that it leads to becomes the product.
    What a process that was killed has left in the same folders is removed; but where `sealed` is
    given, which is called when all files are whole and have not got their names yet: who writes
    many products tidies their folder once.

    Raises
    ------
    OutputError
        If one cannot be written. Every path is then as it was.
    """
    unfinished: list[Path] = []
    try:
        places = [_place(path) for path in paths]
        for folder in {place.parent for place in places if sealed is None}:
            remove_left_behind(folder)
        for place in places:
            unfinished.append(_create_beside(place))
        yield list(unfinished)
        if sealed is not None:
            sealed(unfinished, places)
        _rename_all(unfinished, places)
    except WebbkgError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
        names = ", ".join(map(str, paths[:MOST_NAMES])) + more
        raise OutputError(
            f"{names}: cannot be written ({reason}); free some space or choose another output_dir"
        ) from error
    finally:
        for partial in unfinished:
            partial.unlink(missing_ok=True)


def _place(path: Path) -> Path:
    """Follow symbolic links to where a product is to lie."""
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "neither a file nor a free name", str(path))
    return place


def _create_beside(place: Path) -> Path:
    """Make an empty file in the same folder; an error tells what is wrong with the folder."""
    partial = _hidden(place, "partial")
    with partial.open("xb"):  # the mode is that of any new file: the umask is respected
        return partial


def _rename_all(partials: Sequence[Path], places: Sequence[Path]) -> None:
    """Give files their names; where one is refused, the others take their former content back.

    A second name keeps the former content meanwhile, so that a product's own name leads to a
    whole file at every moment. Where the file system has no second names (hard links), products
    that were renamed before one was refused stay.
    """
    with contextlib.ExitStack() as tidy, contextlib.ExitStack() as undo:
        for partial, place in zip(partials, places, strict=True):
            existed = place.exists()
            former = _second_name(place) if existed and len(places) > 1 else None
            if former is not None:
                tidy.callback(former.unlink, missing_ok=True)
                undo.callback(former.replace, place)
            partial.replace(place)
            if not existed:
                undo.callback(place.unlink)
        undo.pop_all()
    for folder in {place.parent for place in places}:
        settle_folder(folder)


def _second_name(place: Path) -> Path | None:
    former = _hidden(place, "former")
    try:
        former.hardlink_to(place)
    except OSError:
        return None
    return former


def _hidden(place: Path, kind: str) -> Path:
    """Name a file that is unfinished: of which process it is, and like no other of it."""
    return place.with_name(f".webbkg-{owners.machine()}-{os.getpid()}-{os.urandom(8).hex()}.{kind}")


def remove_left_behind(folder: Path) -> None:
    """Remove the unfinished files of processes that are certainly dead."""
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            match = _UNFINISHED.fullmatch(entry.name)
            if match is None or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(FileNotFoundError, PermissionError):
                old = time.time() - entry.stat().st_ctime > _LEFT_AFTER
                if old or (
                    match["machine"] == owners.machine() and owners.is_dead(int(match["pid"]))
                ):
                    Path(entry.path).unlink()
