"""Options that commands share, and those that are made of the step's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from webbkg.options import MIN_SEPARATION, Parameter, option_name, parameters

INPUTS, EVERY_MODE, OUTPUT, PLANNING = "Inputs", "Every mode", "Output", "Planning"

PANELS = {
    "every mode": EVERY_MODE,
    "image": "Image from image",
    "wfss": "Grism exposures (WFSS)",
    "soss": "NIRISS SOSS",
    "template": "Templates of your own",
}
"""Where the help has the options of a mode."""

SHORT = {"save_report": ["--report"]}
"""Options that have another name besides the parameter's."""

ORDER = [*PANELS.values(), OUTPUT]


def option(*names: str, text: str, panel: str, metavar: str | None = None, **more: Any) -> Any:
    """Make an option with its place in the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar, **more)


OverrideBkg = Annotated[
    str | None,
    option(
        "--override-bkg",
        panel=INPUTS,
        text="Template, instead of CRDS's choice: a reference file, or a bare "
        "sky image (.fits, .fits.gz, .npy).",
        metavar="FILE",
    ),
]
OverrideWavelengthrange = Annotated[
    str | None,
    option(
        "--override-wavelengthrange",
        panel=INPUTS,
        text="WAVELENGTHRANGE file, instead of CRDS's choice.",
        metavar="FILE",
    ),
]
Robust = Annotated[bool, option("--robust", panel=EVERY_MODE, text="The same as --preset robust.")]
OutputDir = Annotated[
    str | None,
    option(
        "--output-dir",
        "-o",
        panel=OUTPUT,
        text="Folder of the products; made if need be.",
        metavar="FOLDER",
    ),
]
Suffix = Annotated[
    str | None,
    option(
        "--suffix",
        panel=OUTPUT,
        text="Suffix of the product, instead of backgroundstep.",
        metavar="TEXT",
    ),
]
Overwrite = Annotated[
    bool,
    option(
        "--overwrite",
        panel=OUTPUT,
        text="Overwrite files that are no products of webbkg's, too; inputs never.",
    ),
]
Quiet = Annotated[bool, option("--quiet", "-q", panel=OUTPUT, text="Print errors only.")]
AsJson = Annotated[
    bool, option("--json", panel=OUTPUT, text="Print the outcomes as JSON, for scripts.")
]
AllCatalog = Annotated[
    str | None,
    option(
        "--catalog",
        panel=INPUTS,
        text="Source catalogue (ECSV) of all grism exposures.",
        metavar="FILE",
    ),
]
MinSeparation = Annotated[
    float,
    option(
        "--min-separation",
        panel=PLANNING,
        text="How far a dither must point from its target to be its background.",
        metavar="ARCSEC",
        show_default=f"{MIN_SEPARATION:g}",
    ),
]
BackgroundTarget = Annotated[
    list[str] | None,
    option(
        "--background-target",
        panel=PLANNING,
        text="A target (TARGPROP, TARGNAME) whose exposures are backgrounds; may come again.",
        metavar="NAME",
    ),
]
Pairs = Annotated[
    bool,
    option(
        "--pairs/--no-pairs", panel=PLANNING, text="Take repeats of a two-point nod pair by pair."
    ),
]

_TYPES = {"float": float, "integer": int, "boolean": bool, "string": str}
_LISTS = {"force_list": "FILE,...", "int_list(min=4, max=4)": "X1,X2,Y1,Y2"}
_TYPES |= dict.fromkeys(_LISTS, str)  # with commas between
_PAIR = tuple[float, float]
_TAKEN: dict[Any, str | None] = {float: "NUMBER", int: "N", bool: None, str: "FILE"}
_TAKEN[_PAIR] = "LOW HIGH"
_METAVARS = {"metric_limits": "NAME=LOOK:BAD,..."}


def with_parameters(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the step's parameters, each None unless the user gives it.

    What is not given is left to CRDS's parameter references and to the defaults.
    """
    own = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    taken = [
        one.replace(annotation=hints[one.name])
        for one in own.parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    told = [one for one in parameters().values() if one.name != "bkg_list"]
    added = [_as_option(one) for one in sorted(told, key=lambda one: ORDER.index(_panel(one)))]
    first = next(i for i, one in enumerate(taken) if one.name == "output_dir")
    everything = [*taken[:first], *added, *taken[first:]]  # so the help has its panels in order
    function.__signature__ = own.replace(parameters=everything)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in everything}
    return function


def _panel(one: Parameter) -> str:
    return OUTPUT if one.name.startswith("save_") else PANELS[one.mode]


def _as_option(one: Parameter) -> inspect.Parameter:
    kind = str if one.choices else _TYPES.get(one.kind, _PAIR)
    default = " ".join(map(str, one.stands_for)) if kind is _PAIR else one.stands_for
    shown = False if default in (None, False) else str(default)
    name = option_name(one.name)
    # What a preset switches on can be switched off again.
    flags = [f"{name}/--no-{name[2:]}" if kind is bool and one.presets else name]
    flags += SHORT.get(one.name, [])
    text = one.text.removeprefix(f"{one.mode.upper()}: ")
    made = option(
        *flags,
        text=f"{text[0].upper()}{text[1:]}.",
        panel=_panel(one),
        metavar=_METAVARS.get(one.name)
        or "|".join(one.choices)
        or _LISTS.get(one.kind, _TAKEN[kind]),
        show_default=shown,
    )
    annotation: Any = Annotated[kind | None, made]
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
