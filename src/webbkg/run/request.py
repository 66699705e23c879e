"""What a mode is asked for a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from webbkg.errors import OptionError
from webbkg.files.exposures import ExposureInfo
from webbkg.modes import SOSS, TEMPLATE, Mode, Request, Target
from webbkg.options import TemplateOptions, as_names
from webbkg.run.items import Item, Setting


def request_of(item: Item, setting: Setting, together: tuple[Any, ...]) -> Request:
    """Gather what a mode may want to know."""
    info = ExposureInfo.from_model(item.model) if item.model is not None else item.info
    mode = setting.mode_of(info)
    options, template = setting.options, setting.template
    _check_template(template, mode, item)
    saved = options.save_background or options.save_combined_background
    kept = saved or setting.keep_backgrounds or bool(together)
    named = [item.job.folder, setting.input_dir, item.path and item.path.parent]
    segment = (item.path,) if item.streamed or item.survey else ()
    return Request(
        backgrounds=item.job.backgrounds,
        options=mode.options.of(setting.parameters),
        template=template,
        segments=together or segment,
        source_catalog=item.job.source_catalog,
        folders=(*(Path(folder) for folder in named if folder), Path()),
        propagate_errors=options.propagate_errors,
        measure_medians=setting.measure_medians,
        metrics=not options.skip_metrics,
        metric_limits=as_names(options.metric_limits, "metric_limits") or (),
        keep_background=kept,
        report=options.save_report,
    )


def _check_template(template: TemplateOptions, mode: Mode, item: Item) -> None:
    """Refuse templates of the user's own where something else is to be subtracted.

    Raises
    ------
    OptionError
        For SOSS, or together with background exposures.
    """
    if template.template is None:
        return
    named = ", ".join(template.template)
    if mode is SOSS:
        raise OptionError(
            f"template must not be given for {item.name}, a SOSS exposure (got {named}); give a "
            "library of its skies as override_bkg"
        )
    if mode is TEMPLATE and item.job.backgrounds:
        raise OptionError(
            "template must not be given together with background exposures (got "
            f"{named} and {len(item.job.backgrounds)} backgrounds of {item.name}); leave one out"
        )


def find_reference(
    kind: str, target: Target, item: Item, request: Request, setting: Setting
) -> Any:
    """Find a reference and note it on the item; None where the mission has none (N/A)."""
    if kind in request.references:
        return request.references[kind]
    override = setting.parameters.get(f"override_{kind}")
    found, recorded = setting.crds.find_reference(
        kind, override, lambda: target.open().get_crds_parameters()
    )
    if recorded is not None:
        item.references.append((kind, recorded))
    return found
