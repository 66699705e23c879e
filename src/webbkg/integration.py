"""How others find and use the step: stpipe's registry, and the pipelines of the jwst package.

Nothing heavy is imported here before it is needed; stpipe asks at start-up.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from types import TracebackType
from typing import Any

from webbkg.errors import OptionError

STEP_NAME = "bkg_subtract"
ALIAS = "webbkg"
_OWNERS = ("jwst",)
"""Packages that register a step of the name `STEP_NAME`."""


def get_steps() -> list[tuple[str, str, bool]]:
    """Return (class, alias, whether it is a pipeline) of each step.

    `ALIAS` is ours alone. The pipeline's name for the step is left to the package that owns it:
    stpipe refuses a name that two packages register.
    """
    aliases = [ALIAS] if _has_owner() else [ALIAS, STEP_NAME]
    return [("webbkg.step.BackgroundStep", alias, False) for alias in aliases]


def _has_owner() -> bool:
    """Tell by the installed packages' metadata; no package is imported for it."""
    return any(
        point.module.split(".")[0] in _OWNERS for point in entry_points(group="stpipe.steps")
    )


def use_in(pipeline: type[Any]) -> Replacement:
    """Make a pipeline class run webbkg as its ``bkg_subtract`` step.

    It holds from the call on, for the class itself and the instances made of it; or, in a
    ``with`` statement, to its end. Parameters and parameter files stay as they are.

    Parameters
    ----------
    pipeline : class
        `jwst.pipeline.Spec2Pipeline`, `jwst.pipeline.Image2Pipeline`, or one derived from them.

    Returns
    -------
    Replacement
        A context manager, whose ``undo()`` gives the class its former step back.

    Raises
    ------
    OptionError
        If it is not a pipeline class, or has no such step.

    Examples
    --------
    As a plain call, ``use_in(Spec2Pipeline)``; or for some runs only::

        with use_in(Spec2Pipeline):
            Spec2Pipeline.call("jw_spec2_asn.json")
    """
    from webbkg.step import BackgroundStep

    steps = getattr(pipeline, "step_defs", None)
    if not isinstance(pipeline, type) or not isinstance(steps, dict) or STEP_NAME not in steps:
        raise OptionError(
            f"a pipeline class with a step {STEP_NAME} is needed, as Spec2Pipeline and "
            f"Image2Pipeline of jwst.pipeline are (got {pipeline!r})"
        )
    loggers = tuple(dict.fromkeys((*pipeline.get_stpipe_loggers(), "webbkg")))
    return Replacement(
        pipeline,
        step_defs={**steps, STEP_NAME: BackgroundStep},
        get_stpipe_loggers=staticmethod(lambda: loggers),
    )


class Replacement:
    """Attributes of a class that are other than they were, until `undo`."""

    def __init__(self, changed: type[Any], **attributes: Any) -> None:
        own = vars(changed)
        self._changed = changed
        self._inherited = [name for name in attributes if name not in own]
        self._former = {name: own[name] for name in attributes if name in own}
        for name, value in attributes.items():
            setattr(changed, name, value)

    def undo(self) -> None:
        """Give the class its former attributes back; once, a second call does nothing."""
        for name in self._inherited:
            delattr(self._changed, name)
        for name, value in self._former.items():
            setattr(self._changed, name, value)
        self._inherited, self._former = [], {}

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()
