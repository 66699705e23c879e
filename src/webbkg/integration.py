"""What stpipe asks at start-up: which steps there are. It imports none of them."""

from __future__ import annotations


def get_steps() -> list[tuple[str, str, bool]]:
    """Return (class, alias, whether it is a pipeline) of each step."""
    return [("webbkg.step.BackgroundStep", "bkg_subtract", False)]
