"""What a detector does to light, for every mode: noise, bad pixels, cosmic rays, reference pixels.

Rates are in DN/s, charge in electrons, arrays in detector orientation, (rows, columns).

Left out, because no background method depends on it: non-linearity, saturation, flat field,
persistence, and the crosstalk between neighbours. Correlated (1/f) read noise is there where a
detector asks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from webbkg.files.exposures import DetectorWindow
from webbkg.results import BoolImage, FlagImage, FloatImage

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


Stream = IntEnum(
    "Stream", "CATALOGUE BAD_PIXELS POINTING NOISE COSMIC_RAYS TEMPLATE FLICKER", start=0
)
"""What a random number is for; each purpose draws from a stream of its own."""


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Make the random generator of one purpose, independent of that of any other stream or key.

    The seed, not negative, is that of the whole simulation; the key says which exposure and
    integration, so that the numbers do not depend on the order of calls.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *key)))


def dq_flag(*names: str) -> np.uint32:
    """Return JWST data-quality flags, by name, combined by OR."""
    from stdatamodels.jwst.datamodels import dqflags

    return np.uint32(sum({dqflags.pixel[name] for name in names}))


@dataclass(frozen=True, kw_only=True)
class Subarray:
    """A part of the detector as it is read out."""

    name: str  #: SUBARRAY; ``GENERIC`` for a window that the observatory does not offer
    window: DetectorWindow  #: where it lies
    frame_time: float  #: from one frame to the next (seconds)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector and its defects. Fractions are of its pixels.

    The gains and read noises of the detectors below are round averages; those of a real pixel
    are in the reference files. "Chosen" marks what no document prescribes. "JDox" is the JWST
    user documentation, "Detector Overview" of each instrument.
    """

    instrument: str  #: INSTRUME
    name: str  #: DETECTOR
    module: str | None = None  #: MODULE
    channel: str | None = None  #: CHANNEL
    full: Subarray  #: the whole detector
    fast_axis: int = 1  #: FASTAXIS
    slow_axis: int = 2  #: SLOWAXIS
    gain: float  #: electrons per DN
    read_noise: float  #: standard deviation of one read of one pixel (electrons)
    #: Standard deviation of one frame's correlated noise, whose power goes as 1/frequency
    #: (electrons); 0 for none.
    flicker_noise: float = 0.0
    #: Draw photon noise as Poisson counts, skew as they are; else it is Gaussian.
    counts_photons: bool = False
    pixel_size: float = 18.0  #: pitch (micrometres); MIRI's is 25 (JDox)
    pixel_scale: float  #: on the sky (arcsec per pixel; JDox)
    #: Width of the border of reference pixels at either end: 4 all round for the near-infrared
    #: detectors, 4 columns for MIRI's (JDox).
    reference_rows: int = 4
    reference_columns: int = 4
    hot_fraction: float = 0.002  #: strong dark current, flagged HOT and DO_NOT_USE (chosen)
    hot_rate: float = 2.0  #: median of their log-normal excess (DN/s; chosen)
    hot_spread: float = 1.0  #: its width in the natural logarithm (chosen)
    dead_fraction: float = 0.001  #: without response, flagged DEAD and DO_NOT_USE (chosen)
    dead_missing: float = 0.5  #: fraction of the dead ones that are NaN in SCI and ERR (chosen)
    #: Hits per cm2 and second; 2.3 to 4.3 in NIRSpec from 2022 to 2025 (Rauscher and Fixsen
    #: 2025, PASP 137, 095003), here for every detector.
    cosmic_ray_flux: float = 4.0
    cosmic_ray_pixels: float = 7.0  #: mean number of pixels of a hit; about 7 (same source)
    cosmic_ray_charge: float = 5000.0  #: median of a hit (electrons); 5200 in that source
    cosmic_ray_spread: float = 0.8  #: its width in the natural logarithm (chosen)
    #: Fraction of the hits that jump detection missed or mended badly, so that they are left in
    #: the rate (chosen). The others are taken as mended without trace.
    cosmic_ray_left: float = 0.05
    cosmic_ray_flagged: float = 0.1  #: of those left: carry JUMP_DET all the same (chosen)

    def part(self, window: DetectorWindow) -> Subarray:
        """Make a sub-array that the observatory does not offer, read as slowly as the whole."""
        if window == self.full.window:
            return self.full
        return replace(self.full, name="GENERIC", window=window)


_FULL = Subarray(name="FULL", window=DetectorWindow(0, 0, 2048, 2048), frame_time=10.73677)

NIRCAM_LONG = Detector(
    instrument="NIRCAM",
    name="NRCBLONG",
    module="B",
    channel="LONG",
    full=_FULL,
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
    full=_FULL,
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


def one_output(name: str, window: DetectorWindow, *, along_y: bool = False) -> Subarray:
    """Make a sub-array of a near-infrared detector that is read through one output.

    Its frame time is (length + 12) (lines + 2) 10 microseconds (JWST user documentation, "NIRCam
    Detector Subarrays"), where lines run along the fast axis.
    """
    length, lines = (window.rows, window.columns) if along_y else (window.columns, window.rows)
    return Subarray(name=name, window=window, frame_time=(length + 12) * (lines + 2) * 1e-5)


def nircam_subarray(window: DetectorWindow) -> Subarray:
    """Make a NIRCam sub-array narrower than the detector; see `one_output`."""
    return one_output("GENERIC", window)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How an integration is sampled up the ramp."""

    pattern: str  #: READPATT
    n_groups: int  #: NGROUPS; at least 2
    n_frames: int = 1  #: averaged into a group
    group_gap: int = 0  #: frames left out between two groups


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
    """The bad pixels of a window, in arrays of one value each."""

    rows: Indices  #: where they are, on the window
    columns: Indices
    excess: FloatImage  #: dark rate of the hot ones (DN/s); 0 for the dead
    dead: BoolImage  #: without response
    missing: BoolImage  #: NaN

    def on(self, window: DetectorWindow) -> BadPixels:
        """Take those inside a window of the detector."""
        rows, columns = self.rows - window.y, self.columns - window.x
        inside = (rows >= 0) & (rows < window.rows) & (columns >= 0) & (columns < window.columns)
        return replace(self, rows=rows, columns=columns).only(inside)

    def only(self, chosen: BoolImage) -> BadPixels:
        """Take those chosen, (n,) bool."""
        return BadPixels(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def mask(self, shape: tuple[int, int]) -> BoolImage:
        """Make an image, True where bad."""
        image = np.zeros(shape, np.bool_)
        image[self.rows, self.columns] = True
        return image


def draw_bad_pixels(detector: Detector, seed: int) -> BadPixels:
    """Choose the bad pixels of a whole detector, the same for every exposure with this seed.

    Reference pixels are never among them.
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
    rate = np.where(dead, 0, excess).astype(np.float32)
    drawn = BadPixels(rows, columns, rate, dead, missing)
    return drawn.only(~reference_pixels(detector, window)[rows, columns])


def _places(window: DetectorWindow) -> tuple[Indices, Indices]:
    """Columns, (1, columns), and rows, (rows, 1), of a window on the detector."""
    x = np.arange(window.x, window.x + window.columns)[np.newaxis, :]
    return x, np.arange(window.y, window.y + window.rows)[:, np.newaxis]


def reference_pixels(detector: Detector, window: DetectorWindow, beyond: int = 0) -> BoolImage:
    """Tell which pixels of a window see no light, and so many `beyond` them: (rows, columns)."""
    full, (x, y) = detector.full.window, _places(window)
    width, height = detector.reference_columns + beyond, detector.reference_rows + beyond
    mask: BoolImage = (x < width) | (x >= full.columns - width)
    return mask | (y < height) | (y >= full.rows - height)


def fractions(detector: Detector, window: DetectorWindow) -> tuple[Values, Values]:
    """Place the pixels of a window on the detector, whose ends are at -0.5 and 0.5.

    The first array, (1, columns), goes along x, the second, (rows, 1), along y.
    """
    full, (x, y) = detector.full.window, _places(window)
    return (x + 0.5) / full.columns - 0.5, (y + 0.5) / full.rows - 0.5


def draw_cosmic_rays(setup: Setup, rng: np.random.Generator) -> tuple[FloatImage, BoolImage]:
    """Draw the hits that are left in the rate of one integration.

    A hit is a straight track across the pixels, its charge shared evenly. The charge is taken
    over the time of the integration, as if the jump came in full (a fitted slope takes up
    between none and one and a half of it, depending on when).

    Returned are what they add (DN/s), and where one is flagged as a jump.
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
    frame up. What is slower than a line makes stripes along the fast axis. Returned is what it
    adds (DN/s), to reference pixels too.
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
    axes = enumerate((setup.detector.slow_axis, setup.detector.fast_axis))
    frame = np.flip(frame, tuple(index for index, axis in axes if axis < 0))
    return np.ascontiguousarray(frame.T if along_y else frame)


@dataclass(frozen=True, kw_only=True)
class Planes:
    """One integration, as a rate product holds it; all (rows, columns)."""

    sci: FloatImage  #: count rate (DN/s)
    err: FloatImage  #: its quoted uncertainty (DN/s)
    dq: FlagImage  #: data-quality flags
    var_poisson: FloatImage  #: quoted variances (DN/s)**2
    var_rnoise: FloatImage
    #: The truth: what cosmic rays added to `sci` (DN/s).
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

    The noise is Gaussian, photon noise too unless the detector `counts_photons`: with the hundred
    electrons and more that a sky gives, the two hardly differ, except to a method that cuts the
    noise at its ends. Its variance is that of the true rate; the variances and
    ERR quoted are estimated from the noisy rate, as the pipeline must, unless `true_err`.
    Neither knows of correlated noise.

    `light` is the true rate on the window (DN/s), 0 on reference pixels; it is not changed.
    `seed`, `exposure` and `integration` say which random numbers to use. `true_err` quotes the
    variances of the true rate, bad pixels included and cosmic rays not; SCI stays the same, bit
    for bit. It shows what estimated variances do to a result.
    """
    noise, flicker, rays_of = (
        generator(seed, stream, exposure, integration)
        for stream in (Stream.NOISE, Stream.FLICKER, Stream.COSMIC_RAYS)
    )
    dead = bad.rows[bad.dead], bad.columns[bad.dead]
    rate = light.copy()
    rate[dead] = 0
    rate[bad.rows, bad.columns] += bad.excess
    sci = _draw_signal(rate, setup, noise)
    if setup.detector.flicker_noise:
        sci += draw_flicker(setup, flicker)
    rays, jumps = draw_cosmic_rays(setup, rays_of)
    reference = reference_pixels(setup.detector, setup.window)
    for unlit in (reference, dead):
        rays[unlit], jumps[unlit] = 0, False
    sci += rays
    sci[bad.rows[bad.missing], bad.columns[bad.missing]] = np.nan
    poisson = setup.poisson_variance(np.where(np.isnan(sci), sci, rate) if true_err else sci)
    read = np.full_like(sci, setup.read_variance)
    return Planes(
        sci=sci,
        err=np.sqrt(poisson + read),
        dq=_flags(bad, reference, jumps),
        var_poisson=poisson,
        var_rnoise=read,
        cosmic_rays=rays,
    )


def _draw_signal(rate: FloatImage, setup: Setup, rng: np.random.Generator) -> FloatImage:
    """Draw photon and read noise about a true rate."""
    sci = rng.standard_normal(rate.shape, dtype=np.float32)
    if setup.detector.counts_photons:
        sci *= np.float32(math.sqrt(setup.read_variance))
        counts = rng.poisson(np.maximum(rate, 0) * setup.electrons_per_rate)
        sci += (counts / setup.electrons_per_rate).astype(np.float32)
        return sci
    sci *= np.sqrt(setup.poisson_variance(rate) + np.float32(setup.read_variance))
    sci += rate
    return sci


def _flags(bad: BadPixels, reference: BoolImage, jumps: BoolImage) -> FlagImage:
    dq = np.zeros(reference.shape, np.uint32)
    dq[reference] = dq_flag("REFERENCE_PIXEL")
    dq[jumps] |= dq_flag("JUMP_DET")
    hot, dead = dq_flag("DO_NOT_USE", "HOT"), dq_flag("DO_NOT_USE", "DEAD")
    dq[bad.rows, bad.columns] |= np.where(bad.dead, dead, hot)
    return dq
