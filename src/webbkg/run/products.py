"""What a run will write, and what it must not overwrite: checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from webbkg.errors import OutputError
from webbkg.files import door
from webbkg.files.models import is_model, path_of, read_meta
from webbkg.files.output import TABLE, check_outputs
from webbkg.options import ImageOptions, TemplateOptions
from webbkg.run.items import Item, Setting

BACKGROUND_SUFFIX = "background"
COMBINED_SUFFIX = "combinedbackground"
TIME_SUFFIX = "backgroundtime"


def check_products(items: Iterable[Item], setting: Setting) -> None:
    """Refuse products that would overwrite each other or an input, before any is written.

    Raises
    ------
    OutputError
        Naming the product and the targets.
    """
    items = [item for item in items if item.error is None]
    planned: dict[Path, Item] = {}
    for item in items:
        path = setting.name_product(item, None)
        other = planned.setdefault(path.absolute(), item)
        if other is not item:
            raise OutputError(
                f"{path}: would be the product of both {other.source} and {item.source}; run them "
                "apart, with another output_dir or suffix for one of them"
            )
        if not is_itself(item, path):
            check_outputs([path], inputs_of(item, setting))


def check_report(setting: Setting) -> None:
    """Make sure that reports can be made where they are asked for, before any work is done.

    Raises
    ------
    MissingExtraError
        If they cannot.
    """
    if setting.options.save_report:
        from webbkg.report.page import check_extra

        check_extra()


def time_path(item: Item, setting: Setting) -> Path:
    """Name the table of an item's scales in time, which lies beside its product."""
    return setting.name_product(item, TIME_SUFFIX).with_suffix(TABLE)


def is_itself(item: Item, path: Path) -> bool:
    """Tell whether a product is the very file that its target came from."""
    own = _files_of(item.source, path.parent)
    return door.exists(path) and any(door.exists(one) and path.samefile(one) for one in own)


def inputs_of(item: Item, setting: Setting) -> list[Path]:
    """List the files that no product of an item may overwrite."""
    job = item.job
    given = [*job.targets, *job.backgrounds, job.source_catalog, *given_files(setting.parameters)]
    folder = setting.name_product(item, None).parent
    return [path for one in given for path in _files_of(one, folder)]


def _files_of(given: Any, folder: Path) -> list[Path]:
    """List the files that something given may be; of an open model what it knows of them."""
    if not is_model(given):
        return [Path(given)] if isinstance(given, (str, Path)) and str(given) else []
    opened, name = path_of(given), read_meta(given, "meta.filename")
    return [*([opened] if opened else []), *([folder / name] if name else [])]


def given_files(parameters: Mapping[str, Any]) -> list[Any]:
    """List the files, or open models, that parameters name."""
    given = [
        value
        for name, value in parameters.items()
        if name == "wfss_mask" or name.startswith("override_")
    ]
    given += ImageOptions(source_mask=parameters.get("source_mask")).source_mask or ()
    given += TemplateOptions.of(parameters).template or ()
    return given
