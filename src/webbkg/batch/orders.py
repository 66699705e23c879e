"""What a run asks of every group, put together and checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webbkg.batch.groups import Plan
from webbkg.batch.work import Order
from webbkg.errors import OptionError
from webbkg.files import door
from webbkg.files.output import make_folder
from webbkg.options import KINDS, RunOptions, as_names, check_names
from webbkg.report.limits import set_limits

OF_THE_PLAN = {"bkg_list": "the plan names the backgrounds"}
"""Parameters of the step that a run does not take, and why."""

LISTS = ("source_mask", "template")
"""Parameters that name files."""


def make_order(
    plan: Plan,
    output_dir: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    *,
    suffix: str | None = None,
    overwritten: bool = False,
) -> Order:
    """Put together what a run asks of every group; the folder of the products is made.

    Raises
    ------
    OptionError
        If there is no such parameter, or its value lies outside its range.
    MissingExtraError
        If reports are asked for, and cannot be made.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    check_names(given, OF_THE_PLAN)
    for kind in KINDS:
        kind.of(given)
    given = {name: _with_whole_paths(name, value) for name, value in given.items()}
    if RunOptions.of(given).save_report:
        from webbkg.report.page import check_extra

        check_extra()
    set_limits(as_names(RunOptions.of(given).metric_limits, "metric_limits") or ())
    if suffix and os.sep in suffix:
        raise OptionError(
            f"suffix must be part of a file's name, without {os.sep} (got {suffix!r})"
        )
    return Order(
        folder=str(Path(plan.folder).absolute()),
        output_dir=str(make_folder(output_dir or ".").absolute()),
        parameters=given,
        suffix=suffix,
        overwritten=overwritten,
    )


def _with_whole_paths(parameter: str, value: Any) -> Any:
    if parameter in LISTS:
        return [_whole(one) for one in as_names(value, parameter) or ()] or None
    is_file = parameter == "wfss_mask" or parameter.startswith("override_")
    if is_file and not isinstance(value, str | os.PathLike):
        kind = type(value).__name__
        raise OptionError(
            f"{parameter} must be the name of a file, which workers can open (got a {kind})"
        )
    return _whole(value) if is_file else value


def _whole(name: str | os.PathLike[str]) -> str:
    """Give a file that is here its whole path: workers, and other runs, may be elsewhere."""
    return os.path.abspath(name) if door.exists(Path(name)) else os.fspath(name)  # noqa: PTH100
