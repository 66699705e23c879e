"""Both SOSS methods on what is hard for the robust one: ``python -m benchmarks.soss_which``.

Prints a Markdown table; docs/soss_recovery.md explains it, in "Which method?".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.run import table
from benchmarks.soss_recovery import scene_of
from webbkg.options import SossOptions
from webbkg.results import TemplateFit
from webbkg.simulate.soss import (
    ORDER_1,
    SUBSTRIP96,
    SUBSTRIP256,
    SossScene,
    draw_field,
    draw_series,
    make_library,
    sample_cube,
)
from webbkg.soss.fit import fit_templates

HARD = {
    "diffuse light over the frame": ({"stray": 0.002}, SUBSTRIP256, 2),
    "a single integration": ({}, SUBSTRIP256, 1),
    "SUBSTRIP96": ({}, SUBSTRIP96, 2),
    "SUBSTRIP96, order 1 alone": ({"traces": (ORDER_1,)}, SUBSTRIP96, 2),
}
"""Changes of the scene, strip, integrations."""
SEEDS = (701, 702, 703)


def hard_rows() -> Iterator[dict[str, str]]:
    """Fit by both methods, with templates and scales as chosen."""
    truth = np.array([SossScene().scale_left, SossScene().scale_right])
    for name, (changes, strip, integrations) in HARD.items():
        for star, groups in ((44.0, 15), (440.0, 6), (1500.0, 15)):
            found: dict[str, list[str]] = {"percentile": [], "robust": []}
            looks = 0
            for seed in SEEDS:
                field = draw_field(scene_of(star, groups, **changes), seed, strip)
                library = make_library(field.scene, seed)
                cube = sample_cube(draw_series(field, integrations))
                for method, told in found.items():
                    fit = fit_templates(*cube, library, SossOptions(method=method))
                    looks += fit.robust is not None and bool(fit.robust.look)
                    told.append(told_errors(fit, truth))
            errors = {f"{method} (%)": "; ".join(told) for method, told in found.items()}
            row = {"exposure": name, "star": f"{star:.0f}", "groups": str(groups), **errors}
            yield row | {"look": f"{looks} of {len(SEEDS)}"}


def told_errors(fit: TemplateFit, truth: np.ndarray) -> str:
    """Tell the errors of the scales, left and right."""
    if fit.left is None or fit.right is None:
        return "–"
    errors = 100 * (np.array([fit.left.scale, fit.right.scale]) / truth - 1)
    return f"{errors[0]:+.1f}, {errors[1]:+.1f}"


if __name__ == "__main__":
    for index, row in enumerate(hard_rows()):
        lines = table([row]).splitlines()
        print("\n".join(lines if index == 0 else lines[2:]), flush=True)
