"""What a detector does to light, for every mode: noise, bad pixels, cosmic rays, reference pixels.

Rates are in DN/s, charge in electrons, arrays in detector orientation, (rows, columns).

Left out, because no background method depends on it: non-linearity, saturation, flat field,
persistence, and the crosstalk between neighbours. Correlated (1/f) read noise is there where a
detector asks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from webbkg.files.exposures import DetectorWindow
from webbkg.results import BoolImage, FlagImage, FloatImage

Indices = npt.NDArray[np.int64]


class Stream(IntEnum):
    """What a random number is for; each purpose draws from a stream of its own."""

    CATALOGUE = 0
    BAD_PIXELS = 1
    POINTING = 2
    NOISE = 3
    COSMIC_RAYS = 4
    TEMPLATE = 5
    FLICKER = 6


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Make the random generator of one purpose.

    Parameters
    ----------
    seed : int
        Of the whole simulation; not negative.
    stream : Stream
        The purpose.
    *key : int
        Which exposure, which integration; so the numbers do not depend on the order of calls.

    Returns
    -------
    numpy.random.Generator
        Independent of that of any other stream or key.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *key)))


def dq_flag(*names: str) -> np.uint32:
    """Return JWST data-quality flags, by name, combined by OR."""
    from stdatamodels.jwst.datamodels import dqflags

    return np.uint32(sum({dqflags.pixel[name] for name in names}))


@dataclass(frozen=True, kw_only=True)
class Subarray:
    """A part of the detector as it is read out.

    Attributes
    ----------
    name : str
        SUBARRAY; ``GENERIC`` for a window that the observatory does not offer.
    window : DetectorWindow
        Where it lies.
    frame_time : float
        Time from one frame to the next (seconds).
    """

    name: str
    window: DetectorWindow
    frame_time: float


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector and its defects. Fractions are of its pixels.

    The gains and read noises of the detectors below are round averages; those of a real pixel
    are in the reference files. "Chosen" marks what no document prescribes.

    Attributes
    ----------
    instrument, name, module, channel : str or None
        INSTRUME, DETECTOR, MODULE, CHANNEL.
    full : Subarray
        The whole detector.
    fast_axis, slow_axis : int
        FASTAXIS, SLOWAXIS.
    gain : float
        Electrons per DN.
    read_noise : float
        Standard deviation of one read of one pixel (electrons).
    flicker_noise : float
        Standard deviation of one frame's correlated noise, whose power goes as 1/frequency
        (electrons); 0 for none.
    pixel_size : float
        Pitch (micrometres): 18 for the near-infrared detectors, 25 for MIRI's (JWST user
        documentation, "Detector Overview" of each instrument).
    pixel_scale : float
        On the sky (arcsec per pixel; same source).
    reference_rows, reference_columns : int
        Width of the border of reference pixels at either end: 4 all round for the
        near-infrared detectors, 4 columns for MIRI's (same source).
    hot_fraction : float
        Pixels with a strong dark current, flagged HOT and DO_NOT_USE (chosen).
    hot_rate, hot_spread : float
        Median of their log-normal excess (DN/s) and its width in the natural logarithm (chosen).
    dead_fraction : float
        Pixels without response, flagged DEAD and DO_NOT_USE (chosen).
    dead_missing : float
        Fraction of the dead ones that are NaN in SCI and ERR (chosen).
    cosmic_ray_flux : float
        Hits per cm2 and second; 2.3 to 4.3 in NIRSpec from 2022 to 2025 (Rauscher and Fixsen
        2025, PASP 137, 095003), here for every detector.
    cosmic_ray_pixels : float
        Mean number of pixels of a hit; about 7 (same source).
    cosmic_ray_charge, cosmic_ray_spread : float
        Median charge of a hit (electrons), near the 5200 of that source, and its width in the
        natural logarithm (chosen).
    cosmic_ray_left : float
        Fraction of the hits that jump detection missed or mended badly, so that they are left
        in the rate (chosen). The others are taken as mended without trace.
    cosmic_ray_flagged : float
        Fraction of those left that carry JUMP_DET all the same (chosen).
    """

    instrument: str
    name: str
    module: str | None = None
    channel: str | None = None
    full: Subarray
    fast_axis: int = 1
    slow_axis: int = 2
    gain: float
    read_noise: float
    flicker_noise: float = 0.0
    pixel_size: float = 18.0
    pixel_scale: float
    reference_rows: int = 4
    reference_columns: int = 4
    hot_fraction: float = 0.002
    hot_rate: float = 2.0
    hot_spread: float = 1.0
    dead_fraction: float = 0.001
    dead_missing: float = 0.5
    cosmic_ray_flux: float = 4.0
    cosmic_ray_pixels: float = 7.0
    cosmic_ray_charge: float = 5000.0
    cosmic_ray_spread: float = 0.8
    cosmic_ray_left: float = 0.05
    cosmic_ray_flagged: float = 0.1


NIRCAM_LONG = Detector(
    instrument="NIRCAM",
    name="NRCBLONG",
    module="B",
    channel="LONG",
    full=Subarray(name="FULL", window=DetectorWindow(0, 0, 2048, 2048), frame_time=10.73677),
    slow_axis=-2,
    gain=1.8,
    read_noise=9.2,
    pixel_scale=0.063,
)
"""NIRCam's long-wave detector of module B. About 1.8 electrons per DN and 13 electrons of noise
in the difference of two reads (JWST user documentation, "NIRCam Detector Performance"), which
is 13 / sqrt(2) in one. Frame time: the same, "NIRCam Detector Readout"."""

NIRISS = Detector(
    instrument="NIRISS",
    name="NIS",
    full=Subarray(name="FULL", window=DetectorWindow(0, 0, 2048, 2048), frame_time=10.73677),
    fast_axis=-2,
    slow_axis=-1,
    gain=1.6,
    read_noise=9.2,
    pixel_scale=0.0656,
)
"""NIRISS's detector, of the same make as NIRCam's. About 1.6 electrons per DN (JWST user
documentation, "NIRISS Detector Overview")."""

MIRI_IMAGER = Detector(
    instrument="MIRI",
    name="MIRIMAGE",
    full=Subarray(name="FULL", window=DetectorWindow(0, 0, 1032, 1024), frame_time=2.77504),
    gain=4.0,
    read_noise=24.0,
    pixel_size=25.0,
    pixel_scale=0.11,
    reference_rows=0,
)
"""MIRI's imager. About 4 electrons per DN, 6 DN of read noise (JWST user documentation, "MIRI
Detector Performance"). Frame time: the same, "MIRI Detector Readout FASTR1"."""

MIRI_BRIGHTSKY = Subarray(
    name="BRIGHTSKY", window=DetectorWindow(456, 50, 512, 512), frame_time=0.86528
)
"""MIRI's largest imaging sub-array (JWST user documentation, "MIRI Detector Subarrays")."""


def nircam_subarray(window: DetectorWindow, name: str = "GENERIC") -> Subarray:
    """Make a NIRCam sub-array narrower than the detector, read through one output.

    Its frame time is (columns + 12) (rows + 2) 10 microseconds (JWST user documentation,
    "NIRCam Detector Subarrays").
    """
    frame_time = (window.columns + 12) * (window.rows + 2) * 1e-5
    return Subarray(name=name, window=window, frame_time=frame_time)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How an integration is sampled up the ramp.

    Attributes
    ----------
    pattern : str
        READPATT.
    n_groups : int
        NGROUPS; at least 2.
    n_frames, group_gap : int
        Frames averaged into a group, and frames left out between two groups.
    """

    pattern: str
    n_groups: int
    n_frames: int = 1
    group_gap: int = 0


@dataclass(frozen=True)
class Setup:
    """A detector, how it is read, and which part of it; all that the noise depends on."""

    detector: Detector
    readout: Readout
    subarray: Subarray

    @property
    def window(self) -> DetectorWindow:
        """Where it lies on the detector."""
        return self.subarray.window

    @property
    def group_time(self) -> float:
        """Seconds from one group to the next."""
        return self.subarray.frame_time * (self.readout.n_frames + self.readout.group_gap)

    @property
    def seconds(self) -> float:
        """Seconds between the first and the last group: what the slope is measured over."""
        return self.group_time * (self.readout.n_groups - 1)

    @property
    def electrons_per_rate(self) -> float:
        """Electrons that 1 DN/s collects in an integration."""
        return self.detector.gain * self.seconds

    @property
    def read_variance(self) -> float:
        """Variance of the slope that the read noise causes (DN/s)**2."""
        return self.slope_variance(self.detector.read_noise)

    def slope_variance(self, noise: float) -> float:
        """Variance of the slope that noise independent from frame to frame causes (DN/s)**2.

        12 R**2 / ((n**3 - n) t**2) for n groups t apart (JWST pipeline documentation, "Ramp
        Fitting"), with R that of a group: `noise`, the standard deviation of one frame
        (electrons), reduced by the frames averaged into a group.
        """
        n = self.readout.n_groups
        group = (noise / self.detector.gain) ** 2 / self.readout.n_frames
        return 12 * group / ((n**3 - n) * self.group_time**2)

    def poisson_variance(self, rate: FloatImage) -> FloatImage:
        """Variance of the slope that the photon noise of a rate causes (DN/s)**2.

        rate / (gain t (n - 1)), and none for a negative rate (same source).
        """
        variance = np.maximum(rate, np.float32(0))
        variance /= np.float32(self.electrons_per_rate)
        return variance


@dataclass(frozen=True)
class BadPixels:
    """The bad pixels of a window.

    Attributes
    ----------
    rows, columns : (n,) int64
        Where they are, on the window.
    flags : (n,) uint32
        DO_NOT_USE and either HOT or DEAD.
    excess : (n,) float32
        Dark rate of the hot ones (DN/s); 0 for the dead.
    dead, missing : (n,) bool
        Without response; NaN.
    """

    rows: Indices
    columns: Indices
    flags: FlagImage
    excess: FloatImage
    dead: BoolImage
    missing: BoolImage

    def on(self, window: DetectorWindow) -> BadPixels:
        """Take those inside a window of the detector."""
        rows, columns = self.rows - window.y, self.columns - window.x
        inside = (rows >= 0) & (rows < window.rows) & (columns >= 0) & (columns < window.columns)
        return BadPixels(
            rows[inside],
            columns[inside],
            self.flags[inside],
            self.excess[inside],
            self.dead[inside],
            self.missing[inside],
        )

    def mask(self, shape: tuple[int, int]) -> BoolImage:
        """Make an image, True where bad."""
        image = np.zeros(shape, np.bool_)
        image[self.rows, self.columns] = True
        return image


def draw_bad_pixels(detector: Detector, seed: int) -> BadPixels:
    """Choose the bad pixels of a detector, the same for every exposure with this seed.

    Returns
    -------
    BadPixels
        On the whole detector; reference pixels are never among them.
    """
    rng = generator(seed, Stream.BAD_PIXELS)
    window = detector.full.window
    pixels = window.rows * window.columns
    n_hot = round(detector.hot_fraction * pixels)
    count = n_hot + round(detector.dead_fraction * pixels)
    rows, columns = np.divmod(rng.choice(pixels, count, replace=False), window.columns)
    dead = np.arange(count) >= n_hot
    excess = detector.hot_rate * rng.lognormal(0, detector.hot_spread, count)
    missing = dead & (rng.random(count) < detector.dead_missing)
    hot_flag, dead_flag = dq_flag("DO_NOT_USE", "HOT"), dq_flag("DO_NOT_USE", "DEAD")
    lit = ~reference_pixels(detector, window)[rows, columns]
    return BadPixels(
        rows[lit],
        columns[lit],
        np.where(dead, dead_flag, hot_flag)[lit].astype(np.uint32),
        np.where(dead, 0, excess)[lit].astype(np.float32),
        dead[lit],
        missing[lit],
    )


def reference_pixels(detector: Detector, window: DetectorWindow) -> BoolImage:
    """Tell which pixels of a window see no light: (rows, columns) bool."""
    full = detector.full.window
    rows = np.arange(window.y, window.y + window.rows)
    columns = np.arange(window.x, window.x + window.columns)
    edge_rows = _near_an_end(rows, full.rows, detector.reference_rows)
    edge_columns = _near_an_end(columns, full.columns, detector.reference_columns)
    mask: BoolImage = edge_rows[:, np.newaxis] | edge_columns[np.newaxis, :]
    return mask


def _near_an_end(positions: Indices, length: int, width: int) -> BoolImage:
    return (positions < width) | (positions >= length - width)


def draw_cosmic_rays(setup: Setup, rng: np.random.Generator) -> tuple[FloatImage, BoolImage]:
    """Draw the hits that are left in the rate of one integration.

    A hit is a straight track across the pixels, its charge shared evenly. The charge is taken
    over the time of the integration, as if the jump came in full (a fitted slope takes up
    between none and one and a half of it, depending on when).

    Returns
    -------
    rate : (rows, columns) float32
        What they add (DN/s).
    flagged : (rows, columns) bool
        True where a hit is flagged as a jump.
    """
    detector, shape = setup.detector, setup.window.shape
    area = shape[0] * shape[1] * (detector.pixel_size * 1e-4) ** 2
    expected = detector.cosmic_ray_flux * detector.cosmic_ray_left * area * setup.seconds
    hits = rng.poisson(expected)
    length = 1 + rng.poisson(detector.cosmic_ray_pixels - 1, hits)
    charge = detector.cosmic_ray_charge * rng.lognormal(0, detector.cosmic_ray_spread, hits)
    flagged = rng.random(hits) < detector.cosmic_ray_flagged
    hit, pixels = _tracks(shape, length, rng)
    weights = (charge / length)[hit] / setup.electrons_per_rate
    size = shape[0] * shape[1]
    rate = np.bincount(pixels, weights, size).astype(np.float32).reshape(shape)
    mask = np.zeros(size, np.bool_)
    mask[pixels[flagged[hit]]] = True
    return rate, mask.reshape(shape)


def _tracks(
    shape: tuple[int, int], length: Indices, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Lay one track a hit; return the hit of each step inside the image, and its flat pixel."""
    hits = len(length)
    row, column = rng.random(hits) * shape[0], rng.random(hits) * shape[1]
    angle = rng.random(hits) * 2 * np.pi
    hit = np.repeat(np.arange(hits), length)
    step = np.arange(len(hit)) - np.repeat(np.cumsum(length) - length, length)
    rows = np.floor(row[hit] + step * np.sin(angle)[hit]).astype(np.int64)
    columns = np.floor(column[hit] + step * np.cos(angle)[hit]).astype(np.int64)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return hit[inside], (rows * shape[1] + columns)[inside]


def draw_flicker(setup: Setup, rng: np.random.Generator) -> FloatImage:
    """Draw the correlated noise of one integration, for a window that is read through one output.

    One random signal runs through all pixels in the order in which they are read: along the
    fast axis first, with a pause of 12 pixels after each line. The frames of a ramp are taken
    as independent, so the slope has the power spectrum of one frame: 1/frequency, from once a
    frame up. What is slower than a line makes stripes along the fast axis.

    Returns
    -------
    (rows, columns) float32
        What it adds (DN/s); also on reference pixels.
    """
    along_y = abs(setup.detector.fast_axis) == 2
    rows, columns = setup.window.shape
    lines, length = (columns, rows) if along_y else (rows, columns)
    size = lines * (length + 12)
    power = 1 / np.arange(1, size // 2 + 1)
    spectrum = rng.standard_normal((len(power) + 1, 2), dtype=np.float32).view(np.complex64)[:, 0]
    spectrum[0] = 0
    # The variance of the signal is the sum of 2 * E|spectrum|**2 / size**2 = 4 * power / size**2.
    scale = size * math.sqrt(setup.slope_variance(setup.detector.flicker_noise) / power.sum() / 4)
    spectrum[1:] *= (scale * np.sqrt(power)).astype(np.float32)
    signal = np.fft.irfft(spectrum, size).astype(np.float32)
    frame = signal.reshape(lines, length + 12)[:, :length]
    frame = frame[:: _direction(setup.detector.slow_axis), :: _direction(setup.detector.fast_axis)]
    return np.ascontiguousarray(frame.T if along_y else frame)


def _direction(axis: int) -> int:
    return 1 if axis > 0 else -1


@dataclass(frozen=True, kw_only=True)
class Planes:
    """One integration, as a rate product holds it; all (rows, columns).

    Attributes
    ----------
    sci, err : float32
        Count rate and its quoted uncertainty (DN/s).
    dq : uint32
        Data-quality flags.
    var_poisson, var_rnoise : float32
        Quoted variances (DN/s)**2.
    cosmic_rays : float32
        The truth: what cosmic rays added to `sci` (DN/s).
    """

    sci: FloatImage
    err: FloatImage
    dq: FlagImage
    var_poisson: FloatImage
    var_rnoise: FloatImage
    cosmic_rays: FloatImage = field(repr=False)


def expose(
    light: FloatImage,
    setup: Setup,
    bad: BadPixels,
    seed: int,
    exposure: int,
    integration: int,
    *,
    true_err: bool = False,
) -> Planes:
    """Measure a rate of light with one integration.

    The noise is Gaussian, photon noise too: with the hundred electrons and more that a sky
    gives, the two hardly differ. Its variance is that of the true rate; the variances and
    ERR quoted are estimated from the noisy rate, as the pipeline must, unless `true_err`.
    Neither knows of correlated noise.

    Parameters
    ----------
    light : (rows, columns) float32
        True rate on the window (DN/s), 0 on reference pixels; not changed.
    setup : Setup
        The detector and how it is read.
    bad : BadPixels
        Those of the window.
    seed, exposure, integration : int
        Which random numbers to use.
    true_err : bool
        Quote the variances of the true rate, bad pixels included and cosmic rays not; SCI
        stays the same, bit for bit. It shows what estimated variances do to a result.

    Returns
    -------
    Planes
    """
    rate = light.copy()
    rate[bad.rows[bad.dead], bad.columns[bad.dead]] = 0
    rate[bad.rows, bad.columns] += bad.excess
    sci = _add_noise(rate, setup, generator(seed, Stream.NOISE, exposure, integration))
    if setup.detector.flicker_noise:
        sci += draw_flicker(setup, generator(seed, Stream.FLICKER, exposure, integration))
    rays, flagged = draw_cosmic_rays(
        setup, generator(seed, Stream.COSMIC_RAYS, exposure, integration)
    )
    reference = reference_pixels(setup.detector, setup.window)
    unlit = reference.copy()
    unlit[bad.rows[bad.dead], bad.columns[bad.dead]] = True
    rays[unlit] = 0
    sci += rays
    sci[bad.rows[bad.missing], bad.columns[bad.missing]] = np.nan
    poisson = setup.poisson_variance(np.where(np.isnan(sci), sci, rate) if true_err else sci)
    read = np.full_like(sci, setup.read_variance)
    dq = _flags(bad, reference, flagged & ~unlit)
    return Planes(
        sci=sci,
        err=np.sqrt(poisson + read),
        dq=dq,
        var_poisson=poisson,
        var_rnoise=read,
        cosmic_rays=rays,
    )


def _add_noise(rate: FloatImage, setup: Setup, rng: np.random.Generator) -> FloatImage:
    noise = rng.standard_normal(rate.shape, dtype=np.float32)
    noise *= np.sqrt(setup.poisson_variance(rate) + np.float32(setup.read_variance))
    noise += rate
    return noise


def _flags(bad: BadPixels, reference: BoolImage, jumps: BoolImage) -> FlagImage:
    dq = np.zeros(reference.shape, np.uint32)
    dq[reference] = dq_flag("REFERENCE_PIXEL")
    dq[jumps] |= dq_flag("JUMP_DET")
    dq[bad.rows, bad.columns] |= bad.flags
    return dq
