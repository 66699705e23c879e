"""Rows that stand for a whole target: which they are, and that the metrics look at these."""

import numpy as np
import pytest

from webbkg import Background
from webbkg.numerics.lines import SAMPLE_PIXELS, sampled_lines
from webbkg.numerics.planes import ArrayPlanes
from webbkg.report.sample import draw
from webbkg.results import Outcome, Status


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 2048, 2048), range(8, 2048, 17)),  # of 16 rows one, and an odd step
        ((3, 2048, 2048), range(24, 2048, 49)),
        ((50, 2048, 2048), range(32, 2048, 65)),  # no more than four integrations
        ((1, 64, 80), range(64)),
        ((7, 1, 3_000_000), range(1)),
        ((1, 2, 3_000_000), range(1, 2, 3)),
    ],
)
def test_lines_are_known_from_the_shape(shape, expected):
    assert sampled_lines(shape) == expected


def test_the_metrics_look_at_these_lines_and_at_their_errors():
    rows, columns = 2 * SAMPLE_PIXELS // 512, 512
    ramp = np.arange(rows, dtype=np.float32)[:, np.newaxis] + np.zeros(columns, np.float32)
    nothing, everywhere = np.zeros_like(ramp), np.ones(ramp.shape, np.bool_)
    background = Background(sci=nothing, err=ramp, dq=nothing.astype(np.uint32), covered=everywhere)
    planes = ArrayPlanes.of(SCI=nothing, ERR=nothing + 3)
    sample = draw(planes, background, Outcome(status=Status.COMPLETE))
    lines = sampled_lines(planes.shape)
    assert sorted(set(sample.row.tolist())) == [*lines]
    np.testing.assert_array_equal(background.err_of(lines)[:, 7], np.array(lines, np.float32))
    expected = np.hypot(3.0, ramp[sample.row, 0].astype(float))
    np.testing.assert_allclose(sample.expected, expected, rtol=3e-7)  # a few roundings of float32
