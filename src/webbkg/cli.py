"""The command ``webbkg``: it parses, shows progress and prints a summary; no science here."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from webbkg import __version__
from webbkg.errors import OptionError, WebbkgError
from webbkg.options import ImageOptions, SossOptions, WfssOptions
from webbkg.startup import own_process


class Exit(IntEnum):
    """What the command's exit status means."""

    COMPLETE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    FAILED = 4


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Background subtraction for JWST exposures.",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and leave with its exit status."""
    if arguments is None:  # called as the command, not by a program that goes on afterwards
        own_process()
        arguments = sys.argv[1:]
    app(repeat_background_flag(arguments), prog_name="webbkg")


def repeat_background_flag(arguments: list[str]) -> list[str]:
    """Let ``--background`` take all names that follow it, as a shell's glob gives them.

    Examples
    --------
    >>> repeat_background_flag(["subtract", "t.fits", "--background", "a.fits", "b.fits"])
    ['subtract', 't.fits', '--background', 'a.fits', '--background', 'b.fits']
    """
    repeated: list[str] = []
    flag = None
    fresh = False
    for argument in arguments:
        if argument in ("--background", "-b"):
            flag, fresh = argument, True
        elif argument.startswith("-") and argument != "-":
            flag = None
        elif flag is not None and not fresh:
            repeated.append(flag)
        else:
            fresh = False
        repeated.append(argument)
    return repeated


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"webbkg {__version__}")
        raise typer.Exit


@app.callback()
def _webbkg(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Subtract the background of JWST exposures."""


@dataclass
class _Report:
    """What became of one target, for the summary and for ``--json``."""

    target: str
    status: str
    reason: str = ""
    output: str | None = None
    already_done: bool = False
    median_before: float | None = None
    median_after: float | None = None
    warnings: list[str] = field(default_factory=list)
    summary: tuple[tuple[str, str], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give everything but the summary, which is for people."""
        return {name: value for name, value in self.__dict__.items() if name != "summary"}

    @property
    def exit_status(self) -> Exit:
        return Exit.SKIPPED if self.already_done else Exit[self.status]


_Target = Annotated[
    list[str],
    typer.Argument(help="Exposures to subtract from, or an association (.json); globs too."),
]
_Background = Annotated[
    list[str] | None,
    typer.Option("--background", "-b", metavar="FILE...", help="Background exposures; globs too."),
]
_Sigma = Annotated[float, typer.Option(help="Clip threshold, in standard deviations.")]
_Maxiters = Annotated[
    int | None, typer.Option(help="Most clip iterations; by default until stable.")
]
_OutputDir = Annotated[
    Path | None, typer.Option("--output-dir", "-o", help="Folder of the products.")
]
_OutputFile = Annotated[Path | None, typer.Option(help="Name of the product, for one target.")]
_Suffix = Annotated[str | None, typer.Option(help="Suffix of the product.")]
_SaveCombinedBackground = Annotated[
    bool,
    typer.Option("--save-combined-background", help="Save the averaged background exposures."),
]
_SaveBackground = Annotated[
    bool,
    typer.Option("--save-background", help="Save what was subtracted, with its uncertainty."),
]
_OverrideBkg = Annotated[str | None, typer.Option(help="Template file, instead of CRDS's choice.")]
_OverrideWavelengthrange = Annotated[
    str | None, typer.Option(help="WAVELENGTHRANGE file, instead of CRDS's choice.")
]
_SossSourcePercentile = Annotated[
    float, typer.Option(help="SOSS: pixels at or above this percentile are source.")
]
_SossBkgPercentile = Annotated[
    tuple[float, float],
    typer.Option(help="SOSS: percentiles between which ratios set the scale."),
]
_WfssMmagExtract = Annotated[
    float | None,
    typer.Option(help="WFSS: sources of this AB magnitude and fainter are not masked."),
]
_WfssMask = Annotated[
    str | None, typer.Option(help="WFSS: file whose MASK extension is 1 for sky.")
]
_WfssMaxiter = Annotated[int, typer.Option(help="WFSS: most outlier rejections.")]
_WfssRmsStop = Annotated[
    float, typer.Option(help="WFSS: stop when the RMS improves by less (percent).")
]
_WfssOutlierPercent = Annotated[float, typer.Option(help="WFSS: rejected at each end (percent).")]
_AllowRepeat = Annotated[
    bool, typer.Option("--allow-repeat", help="Subtract again from what is already subtracted.")
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, for scripts.")]


@app.command(no_args_is_help=True)
def subtract(
    target: _Target,
    background: _Background = None,
    sigma: _Sigma = ImageOptions.sigma,
    maxiters: _Maxiters = None,
    output_dir: _OutputDir = None,
    output_file: _OutputFile = None,
    suffix: _Suffix = None,
    save_combined_background: _SaveCombinedBackground = False,
    save_background: _SaveBackground = False,
    override_bkg: _OverrideBkg = None,
    override_wavelengthrange: _OverrideWavelengthrange = None,
    soss_source_percentile: _SossSourcePercentile = SossOptions.source_percentile,
    soss_bkg_percentile: _SossBkgPercentile = SossOptions.bkg_percentile,
    wfss_mmag_extract: _WfssMmagExtract = None,
    wfss_mask: _WfssMask = None,
    wfss_maxiter: _WfssMaxiter = WfssOptions.maxiter,
    wfss_rms_stop: _WfssRmsStop = WfssOptions.rms_stop,
    wfss_outlier_percent: _WfssOutlierPercent = WfssOptions.outlier_percent,
    allow_repeat: _AllowRepeat = False,
    quiet: _Quiet = False,
    as_json: _AsJson = False,
) -> None:
    """Subtract the background of each target and write the product.

    Exit status: 0 if all are COMPLETE, 3 if one was SKIPPED, 4 if one FAILED, 1 on an error, 2
    on bad usage.
    """
    targets = expand_globs(target)
    if output_file is not None and len(targets) > 1:
        raise typer.BadParameter("--output-file names one product: give one target")
    parameters = {
        "sigma": sigma,
        "maxiters": maxiters,
        "output_dir": output_dir and str(output_dir),
        "output_file": output_file and str(output_file),
        "suffix": suffix,
        "save_combined_background": save_combined_background,
        "save_background": save_background,
        "override_bkg": override_bkg,
        "override_wavelengthrange": override_wavelengthrange,
        "soss_source_percentile": soss_source_percentile,
        "soss_bkg_percentile": list(soss_bkg_percentile),
        "wfss_mmag_extract": wfss_mmag_extract,
        "wfss_mask": wfss_mask,
        "wfss_maxiter": wfss_maxiter,
        "wfss_rms_stop": wfss_rms_stop,
        "wfss_outlier_percent": wfss_outlier_percent,
        "allow_repeat": allow_repeat,
    }
    backgrounds = expand_globs(background or [])
    reports = []
    for group in _groups(targets):
        with _progress(group[0], quiet or as_json) as progress:
            made = _subtract_group(group, backgrounds, parameters, progress, not quiet)
        reports += made
        for report in [] if as_json else made:
            _print_report(report, quiet)
    if as_json:
        typer.echo(json.dumps([report.as_json() for report in reports], indent=2))
    raise typer.Exit(_worst(report.exit_status for report in reports))


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where to write the exposures and products.")
    ] = Path("webbkg-demo"),
    size: Annotated[int, typer.Option(help="Rows and columns of the largest exposure.")] = 2048,
) -> None:
    """Simulate exposures, subtract their backgrounds, and compare with the truth."""
    from webbkg.simulate.demo import run_demo
    from webbkg.simulate.demo_templates import run_template_demos

    logging.getLogger("webbkg").setLevel(logging.ERROR)
    logging.getLogger("stpipe").setLevel(logging.ERROR)
    try:
        results = run_demo(folder, size=size, tell=typer.echo)
        scaled = run_template_demos(folder, tell=typer.echo)
    except WebbkgError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(Exit.ERROR) from error
    for result in results:
        typer.echo(f"\n{result.name}: {result.status} {result.reason}".rstrip())
        for label, value in _demo_lines(result):
            typer.echo(f"  {label:<38}{value}")
    for scale_result in scaled:
        typer.echo(f"\n{scale_result.name}: {scale_result.status} {scale_result.reason}".rstrip())
        for label, value in _scale_lines(scale_result):
            typer.echo(f"  {label:<38}{value}")
    statuses = [result.status for result in results] + [result.status for result in scaled]
    raise typer.Exit(_worst(Exit[status] for status in statuses))


def _scale_lines(result: Any) -> Iterator[tuple[str, str]]:
    """Tell which scales were found, a label and a value each."""
    yield (
        "time",
        (f"{result.subtract_seconds:.2f} s, after {result.simulate_seconds:.1f} s of simulation"),
    )
    for scale in result.scales:
        error = 100 * (scale.found / scale.truth - 1)
        yield (
            f"{scale.label}, true and found",
            f"{scale.truth:.5g}, {scale.found:.6g} ± {scale.quoted_err:.2g} ({error:+.3f} %)",
        )
    yield from result.facts
    yield "products", ", ".join(result.products)


def _demo_lines(result: Any) -> Iterator[tuple[str, str]]:
    """Tell what was recovered, a label and a value each; rates are in DN/s."""
    yield "backgrounds", str(result.n_backgrounds)
    clipped = _percent(result.clipped, result.samples)
    yield "samples clipped", f"{result.clipped:,} of {result.samples:,} ({clipped})"
    yield (
        "time",
        (
            f"{result.subtract_seconds:.2f} s for {result.bytes_read / 1e6:.0f} MB, "
            f"after {result.simulate_seconds:.1f} s of simulation"
        ),
    )
    found = result.recovery
    if found is None:
        return
    yield "sky, true and recovered", f"{found.sky_true:.5g}, {found.sky_found:.5g} DN/s"
    yield "error of the sky, blank pixels", f"{found.sky_error:+.2g} ± {found.sky_scatter:.2g} DN/s"
    yield "  in units of ERR (right: 0 ± 1)", f"{found.pull_median:+.3f} ± {found.pull_scatter:.3f}"
    yield "within 3 ERR, blank pixels", f"{100 * found.within_3_err_blank:.2f} %"
    yield "within 3 ERR, all pixels", f"{100 * found.within_3_err:.2f} %"
    yield "left of cosmic rays, of a plain mean", f"{100 * found.cosmic_ray_leak:.3g} %"
    yield "left of sources, of a plain mean", f"{100 * found.source_leak:.3g} %"
    yield "median before, after", f"{found.median_before:.5g}, {found.median_after:.2g} DN/s"
    yield "product", result.product


@app.command(name="make-template")
def make_template_command(
    image: Annotated[Path, typer.Argument(help="Sky image: FITS (zipped too) or .npy.")],
    like: Annotated[Path, typer.Option(help="A target of the exposures that it is for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.fits).")],
) -> None:
    """Wrap a bare sky image into a reference file, for --override-bkg."""
    from webbkg.files.templates import make_template

    try:
        made = make_template(image, like, output)
    except WebbkgError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(Exit.ERROR) from error
    typer.echo(f"{made}: template of {image.name}, for exposures like {like.name}")


def expand_globs(names: list[str]) -> list[str]:
    """Expand ``*``, ``?`` and ``[]`` where the shell has not; a name that exists is itself."""
    expanded = []
    for name in names:
        if Path(name).exists() or not glob.has_magic(name):
            expanded.append(name)
            continue
        found = sorted(glob.glob(name))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise typer.BadParameter(f"no file matches {name}")
        expanded += found
    return expanded


def _worst(statuses: Iterator[Exit]) -> int:
    order = [Exit.COMPLETE, Exit.SKIPPED, Exit.FAILED, Exit.ERROR]
    return int(max(statuses, key=order.index, default=Exit.COMPLETE))


class _Collector(logging.Handler):
    """Keeps the warnings of a run for its report."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _groups(targets: list[str]) -> list[list[str]]:
    """Let each target be run by itself, but the segments of one exposure together."""
    from webbkg.soss.segments import are_segments

    if len(targets) > 1 and all(Path(target).is_file() for target in targets):
        with contextlib.suppress(WebbkgError):  # told when its turn comes
            if are_segments([Path(target) for target in targets]):
                return [targets]
    return [[target] for target in targets]


def _subtract_group(
    targets: list[str],
    backgrounds: list[str],
    parameters: dict[str, Any],
    progress: Callable[[int, int], None] | None,
    wants_medians: bool,
) -> list[_Report]:
    """Run the step once; an error is a report too."""
    collector = _Collector()
    logger = logging.getLogger("webbkg")
    logger.addHandler(collector)
    logger.propagate = False
    try:
        reports = _run_step(targets, backgrounds, parameters, progress, wants_medians)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from error
    except WebbkgError as error:
        reports = [_Report(target=", ".join(targets), status=Exit.ERROR.name, reason=str(error))]
    finally:
        logger.removeHandler(collector)
        logger.propagate = True
    reasons = [report.reason for report in reports if report.reason]
    reports[0].warnings = [
        text for text in collector.messages if not any(reason in text for reason in reasons)
    ]
    return reports


def _run_step(
    targets: list[str],
    backgrounds: list[str],
    parameters: dict[str, Any],
    progress: Callable[[int, int], None] | None,
    wants_medians: bool,
) -> list[_Report]:
    from webbkg.step import BackgroundStep

    given = {name: value for name, value in parameters.items() if value is not None}
    config, config_file = BackgroundStep.build_config(targets[0], **given)
    step = BackgroundStep.from_config_section(config, config_file=config_file)
    step.save_results = True
    step.product_only = True
    step.progress = progress
    step.measure_medians = wants_medians
    step.run(targets if len(targets) > 1 else targets[0], backgrounds or None)
    # Backgrounds may be saved too; the products proper carry the targets' suffix.
    products = [step.product_of.get(index) for index in range(len(targets))]
    return [
        _Report(
            target=target,
            status=str(outcome.status),
            reason=outcome.reason,
            already_done=outcome.already_done,
            output=None if product is None else str(product),
            median_before=outcome.median_before,
            median_after=outcome.median_after,
            summary=outcome.summary,
            details=outcome.details,
        )
        for target, outcome, product in zip(targets, step.outcomes, products, strict=True)
    ]


@contextmanager
def _progress(label: str, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error while it is a terminal."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(label).name, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def _print_report(report: _Report, quiet: bool) -> None:
    if report.status == Exit.ERROR.name:
        typer.echo(f"error: {report.reason}", err=True)
        return
    if quiet:
        return
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{report.target}: {report.status}")
    for label, value in _lines(report):
        typer.echo(f"  {label:<22}{value}")


def _lines(report: _Report) -> Iterator[tuple[str, str]]:
    """Tell the outcome in a few lines: a label and a value each."""
    if report.reason:
        yield "because", report.reason
    yield from report.summary
    if report.median_before is not None and report.median_after is not None:
        yield "median before, after", f"{report.median_before:.6g}, {report.median_after:.6g}"
    if report.output is not None:
        yield "product", report.output


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "of none"


if __name__ == "__main__":
    main()
