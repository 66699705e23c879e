"""All parameters, and what they are called on the command line."""

from __future__ import annotations

import re

from webbkg.options.image import ImageOptions
from webbkg.options.run import RunOptions
from webbkg.options.soss import SossOptions
from webbkg.options.table import Options, Parameter
from webbkg.options.template import TemplateOptions
from webbkg.options.wfss import WfssOptions

KINDS: tuple[type[Options], ...] = (
    RunOptions,
    ImageOptions,
    SossOptions,
    WfssOptions,
    TemplateOptions,
)


def parameters() -> dict[str, Parameter]:
    """Tell all parameters by their names, those of every mode first."""
    return {one.name: one for kind in KINDS for one in kind.parameters().values()}


def option_name(name: str) -> str:
    """Give a parameter the name that it has on the command line.

    Examples
    --------
    >>> option_name("wfss_maxiter")
    '--wfss-maxiter'
    """
    return f"--{name.replace('_', '-')}"


_COMMAND_ONLY = (
    *("output_dir", "output_file", "override_bkg", "override_wavelengthrange"),
    *("background_target", "min_separation", "memory_limit"),
)
_ENGLISH = (
    *("sigma", "preset", "suffix", "template"),
    *("scheduler", "engine", "shard", "workers"),
)
"""Parameters whose names are words, too: they are meant where a message demands or offers them."""


def as_options(message: str) -> str:
    """Call the parameters in a message by the names that they have on the command line.

    What is part of another name, of a file's, say, stays.

    Examples
    --------
    >>> as_options("sigma must be at least 0; source_mask.fits: choose another suffix")
    '--sigma must be at least 0; source_mask.fits: choose another --suffix'
    >>> as_options("nothing to compare (match_background = scale)")
    'nothing to compare (--match-background scale)'
    """
    named = {*parameters(), *_COMMAND_ONLY} - {*_ENGLISH, "bkg_list"}
    plain = "|".join(sorted(named, key=len, reverse=True))
    words = "|".join(_ENGLISH)
    found = rf"{plain}|(?:^|(?<=another )|(?<=, )|(?<=or ))(?:{words})(?= must|$|[,;]| or | for )"
    pattern = rf"(?<![\w./'\"-])({found})(?![\w/'\"-]|\.\w)(?: = (?=\w))?"
    return re.sub(pattern, lambda met: _renamed(met[0], met[1]), message)


def _renamed(met: str, name: str) -> str:
    return option_name(name) + (" " if met != name else "")
