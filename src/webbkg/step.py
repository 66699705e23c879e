"""The stpipe step: parameters in, options out; the work is done in `webbkg.subtract`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from stpipe import Step

from webbkg.errors import OutputError
from webbkg.files import references
from webbkg.files.associations import Job, resolve
from webbkg.files.exposures import Exposure, read_meta
from webbkg.files.models import (
    background_model,
    is_model,
    open_header,
    open_model,
    save_all,
    write_model,
)
from webbkg.files.parameters import check_parameter_file, judging
from webbkg.files.streaming import is_streamable, open_standing_in, write_streamed
from webbkg.files.suffixes import strip_suffix
from webbkg.modes import Request
from webbkg.options import ImageOptions, SossOptions, WfssOptions
from webbkg.results import CombinedBackground, Outcome
from webbkg.soss.segments import are_segments, check_segments
from webbkg.startup import leave_no_garbage
from webbkg.subtract import subtract_background

log = logging.getLogger(__name__)


class _LogFormatter(logging.Formatter):
    """Writes the lines of a product's ``cal_logs``; the times are UTC."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03d - %(name)s - %(levelname)s - %(message)s", "%Y-%m-%dT%H:%M:%S"
        )


class BackgroundStep(Step):
    """Subtract the background of a JWST exposure.

    Imaging and most spectroscopy: the sigma-clipped average of background exposures. WFSS: a
    reference sky, scaled to the source-free pixels. NIRISS SOSS: the best of a library of sky
    templates, scaled on the two sides of its step; segments given together are fitted together.
    """

    class_alias = "bkg_subtract"
    bkg_suffix = "combinedbackground"
    background_suffix = "background"
    reference_file_types: ClassVar = ["bkg", "wavelengthrange"]
    _log_records_formatter = _LogFormatter()
    # References are asked for when a target needs them; an image needs none.
    prefetch_references = False

    spec = f"""
        output_ext = string(default=".fits")  # Default type of output
        bkg_list = force_list(default=None)  # Background exposures; an association's members and a second argument win over it
        save_combined_background = boolean(default=False)  # Save the averaged background exposures
        sigma = float(default={ImageOptions.sigma})  # Clip threshold, in standard deviations
        maxiters = integer(default=None)  # Most clip iterations; None or 0: until stable
        soss_source_percentile = float(default={SossOptions.source_percentile})  # SOSS: pixels at or above this percentile are source
        soss_bkg_percentile = float_list(min=2, max=2, default=None)  # SOSS: percentiles between which ratios set the scale; None: 25, 50
        wfss_mmag_extract = float(default=None)  # WFSS: sources of this AB magnitude and fainter are not masked; None: all are
        wfss_mask = string(default=None)  # WFSS: file whose MASK extension is 1 for sky, 0 for source
        wfss_maxiter = integer(default={WfssOptions.maxiter})  # WFSS: most outlier rejections; 0 for none
        wfss_rms_stop = float(default={WfssOptions.rms_stop})  # WFSS: stop when the RMS improves by less (percent); 0 for never
        wfss_outlier_percent = float(default={WfssOptions.outlier_percent})  # WFSS: share of pixels rejected at each end (percent)
        allow_repeat = boolean(default=False)  # Subtract again from what is already subtracted
        save_background = boolean(default=False)  # Save what was subtracted, with its uncertainty
    """

    outcomes: list[Outcome]
    """What the latest run came to, one for each target."""

    products: list[Path]
    """What the latest run wrote."""

    product_of: dict[int, Path]
    """The background-subtracted product of each target, by its number from 0."""

    progress: Callable[[int, int], None] | None = None
    """Called with the parts done and their number; not a parameter."""

    _is_running = False

    product_only = False
    """The caller wants the products and not the returned models, whose planes may then be
    missing; large cubes are streamed from file to file. Not a parameter."""

    measure_medians = False
    """Whether outcomes are to tell the median before and after; not a parameter."""

    def run(self, *args: Any) -> Any:
        """Run the step as stpipe does, after making sure of the output folder."""
        if self.output_dir:
            folder = Path(os.path.expanduser(os.path.expandvars(self.output_dir)))  # noqa: PTH111
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise OutputError(
                    f"{folder}: cannot be made ({reason}); choose another output_dir"
                ) from error
        self._is_running = True
        try:
            return super().run(*args)
        finally:
            self._is_running = False

    def process(self, target: Any, backgrounds: Any = None) -> Any:
        """Subtract the background of a target, or of each of a list of targets.

        Parameters
        ----------
        target : path, data model, association (path or mapping), or list of these
            What to subtract from; never changed.
        backgrounds : path, comma-separated string, data model, or list of these, optional
            Background exposures. An association's own win over it; it wins over `bkg_list`.

        Returns
        -------
        data model, or list of data models
            With ``meta.cal_step.bkg_subtract`` set to COMPLETE, SKIPPED or FAILED.
        """
        self.outcomes = []
        self.products = []
        self.product_of = {}
        self._results: list[Any] = []
        self._names: dict[int, str] = {}
        self._untouched: dict[int, Path] = {}
        self._streamed: dict[int, Path] = {}
        self._together: list[Any] = []
        self._unsaved: list[tuple[Any, Path]] = []
        job = resolve(target, backgrounds, self.bkg_list, input_dir=self.input_dir)
        for warning in job.warnings:
            log.warning(warning)
        self._inputs = self._files_in_use(job)
        if are_segments(job.targets):
            results = self._subtract_segments(job)
        else:
            results = [self._subtract_one(item, job) for item in job.targets]
        self._results = results
        return results[0] if len(results) == 1 else results

    def _files_in_use(self, job: Job) -> list[Path]:
        """List the files that no product may overwrite."""
        items = [*job.targets, *job.backgrounds, job.source_catalog, self.wfss_mask]
        items += [self.get_ref_override(kind) for kind in self.reference_file_types]
        return [Path(item) for item in items if isinstance(item, (str, Path))]

    def _subtract_segments(self, job: Job) -> list[Any]:
        """Fit the segments of one exposure together; all succeed, or an error ends the run."""
        opened = [self._open(item, job) for item in job.targets]
        models = tuple(model for model, _ in opened)
        check_segments(models, allow_repeat=self.allow_repeat)
        measured = None
        results = []
        for item, (model, owned) in zip(job.targets, opened, strict=True):
            request = self._request(item, model, job, segments=models)
            result, outcome = subtract_background(
                model,
                request,
                allow_repeat=self.allow_repeat,
                in_place=owned,
                apply=id(model) not in self._streamed,
                measured=measured,
            )
            measured = None if outcome.already_done else outcome
            results.append(self._finish(item, result, outcome, owned, job))
        self._together = results
        return results

    def _subtract_one(self, item: Any, job: Job) -> Any:
        model, owned = self._open(item, job)
        result, outcome = subtract_background(
            model,
            self._request(item, model, job),
            allow_repeat=self.allow_repeat,
            in_place=owned,
            apply=id(model) not in self._streamed,
        )
        result = self._finish(item, result, outcome, owned, job)
        self._save_background(result, outcome)
        return result

    def _open(self, item: Any, job: Job) -> tuple[Any, bool]:
        """Open a target; returns it, and whether it is the step's own to change."""
        if is_model(item):
            return item, False
        _check_file(item)
        if self._can_stream(item):
            model = open_standing_in(item)
            self._streamed[id(model)] = item
        else:
            model = open_model(item)
        if len(job.targets) > 1:
            self._names[id(model)] = item.name
        return model, True

    def _can_stream(self, path: Path) -> bool:
        """Tell whether a target goes from file to file: no one else looks at its planes."""
        alone = self.product_only and self.save_results and self.parent is None
        as_fits = Path(self.make_output_path(basepath=self.output_file)).suffix == ".fits"
        hooks = self._pre_hooks or self._post_hooks
        return alone and as_fits and not hooks and is_streamable(path)

    def _request(self, item: Any, model: Any, job: Job, segments: tuple[Any, ...] = ()) -> Request:
        """Gather what a mode may want to know."""
        return Request(
            backgrounds=job.backgrounds,
            image=ImageOptions(sigma=self.sigma, maxiters=self.maxiters),
            wfss=WfssOptions(
                mmag_extract=self.wfss_mmag_extract,
                mask=self.wfss_mask,
                maxiter=self.wfss_maxiter,
                rms_stop=self.wfss_rms_stop,
                outlier_percent=self.wfss_outlier_percent,
            ),
            soss=SossOptions(
                source_percentile=self.soss_source_percentile,
                bkg_percentile=tuple(self.soss_bkg_percentile or SossOptions.bkg_percentile),
            ),
            segments=tuple(self._streamed.get(id(one), one) for one in segments or (model,)),
            find_reference=lambda kind: references.find_reference(self, model, kind),
            source_catalog=job.source_catalog,
            folders=self._folders(item, job),
            progress=self.progress,
            warn=log.warning,
            measure_medians=self.measure_medians,
            keep_background=self._keeps_background(item, segments),
        )

    def _keeps_background(self, item: Any, segments: tuple[Any, ...]) -> bool:
        """Tell whether a background is needed once its target is done with."""
        saved = self.save_background or self.save_combined_background
        return saved or len(segments) > 0 or not is_model(item)

    def _finish(self, item: Any, result: Any, outcome: Outcome, owned: bool, job: Job) -> Any:
        """Keep what is needed to name the product and to tell what was done."""
        self.outcomes.append(outcome)
        if not owned and len(job.targets) > 1:
            self._names[id(result)] = str(read_meta(result, "meta.filename") or "")
        if outcome.already_done and owned:
            self._untouched[id(result)] = item
        _record_members(result, job)
        return result

    def _folders(self, item: Any, job: Job) -> tuple[Path, ...]:
        """Where files that the target names are looked for."""
        named = [job.folder, self.input_dir, None if is_model(item) else item.parent]
        return (*(Path(folder) for folder in named if folder), Path())

    def _save_background(self, result: Any, outcome: Outcome) -> None:
        background = outcome.background
        if background is None:
            return
        wanted = {self.background_suffix: self.save_background}
        if isinstance(background, CombinedBackground):
            wanted[self.bkg_suffix] = self.save_combined_background
        for suffix, is_wanted in wanted.items():
            if is_wanted:
                model = background_model(background, result)
                own_name = self._names.get(id(result))
                self.save_model(model, suffix=suffix, output_file=own_name, force=True)

    # How stpipe names and writes a product.

    def save_model(
        self,
        model: Any,
        suffix: str | None = None,
        idx: int | None = None,
        output_file: str | None = None,
        force: bool = False,
        **components: Any,
    ) -> Any:
        """Write a product whole or not at all, under the name that stpipe gives it."""
        output_file = output_file or self.output_file
        if not (force or self.save_results or output_file):
            return None
        if isinstance(model, Sequence):
            return super().save_model(
                model, suffix=suffix, idx=idx, output_file=output_file, force=force, **components
            )
        own_name = getattr(self, "_names", {}).get(id(model))
        if own_name:
            output_file, idx = own_name, None
        if self.output_use_model or (output_file is None and not self.search_output_file):
            output_file, idx = model.meta.filename, None
        path = self.make_output_path(basepath=output_file, suffix=suffix, idx=idx, **components)
        if _is_same_file(path, self._untouched.get(id(model))):
            log.info("%s is left as it is", path)
            self._drop_stand_ins(model)
            return path
        if any(model is one for one in getattr(self, "_together", [])):
            return self._save_together(model, Path(path))
        inputs = getattr(self, "_inputs", [])
        self._note_product(model, *save_all([model], [Path(path)], inputs, self._write))
        return path

    def _write(self, model: Any, stream: IO[bytes], path: Path) -> None:
        """Write a product; the planes of a streamed one are taken from its target."""
        source = getattr(self, "_streamed", {}).get(id(model))
        if source is None:
            write_model(model, stream, path)
            return
        index = next(i for i, one in enumerate(self._results) if one is model)
        write_streamed(model, source, self.outcomes[index].background, stream)
        self._drop_stand_ins(model)

    def _drop_stand_ins(self, model: Any) -> None:
        """Take the planes of a streamed model away: better none than zeros that look like data."""
        if id(model) in self._streamed:
            for name in [name for name, value in model.instance.items() if np.ndim(value) > 1]:
                del model.instance[name]

    def _note_product(self, model: Any, path: Path) -> None:
        log.info("Saved %s", path)
        self.products.append(path)
        for index, result in enumerate(self._results):
            if model is result:
                self.product_of[index] = path

    def _save_together(self, model: Any, path: Path) -> str:
        """Wait until every segment has come to be saved; then write all, or none."""
        self._unsaved.append((model, path))
        if len(self._unsaved) == len(self._together):
            models, paths = zip(*self._unsaved, strict=True)
            for saved, written in zip(
                models, save_all(models, paths, self._inputs, self._write), strict=True
            ):
                self._note_product(saved, written)
            for result, outcome in zip(self._together, self.outcomes, strict=True):
                self._save_background(result, outcome)
        return str(path)

    def default_output_file(self, input_file: str | None = None) -> str:
        """Name the product after its input; a gzipped one loses that ending."""
        name = str(super().default_output_file(input_file))
        return name[: -len(".gz")] if name.lower().endswith(".gz") else name

    def set_primary_input(self, obj: Any, exclusive: bool = True) -> None:
        """Note what products are named after.

        The command line says so before it runs the step, and wants nothing but the product.
        """
        if not self._is_running:
            self.product_only = True
            leave_no_garbage()
        super().set_primary_input(obj, exclusive=exclusive)

    @staticmethod
    def remove_suffix(name: str) -> tuple[str, str]:
        """Split a known product suffix off a file name's stem."""
        return strip_suffix(name)

    @staticmethod
    def get_stpipe_loggers() -> tuple[str, ...]:
        """Return the loggers that a run shows."""
        return ("webbkg", "stpipe", "stdatamodels", "jwst", "py.warnings")

    # How stpipe opens things, and what it asks CRDS.

    @classmethod
    def _datamodels_open(cls, init: Any, **kwargs: Any) -> Any:
        return init if is_model(init) else open_model(init)

    @classmethod
    def _get_crds_parameters(cls, dataset: Any) -> tuple[dict[str, Any], str]:
        """Return what CRDS selects by: the metadata of the (first) target, without its arrays."""
        if is_model(dataset) and not isinstance(dataset, Sequence):
            return dataset.get_crds_parameters(), dataset.crds_observatory
        if not references.crds_is_configured():
            return {}, references.OBSERVATORY
        target = resolve(dataset, []).targets[0]
        if is_model(target):
            return target.get_crds_parameters(), target.crds_observatory
        header = open_model(target) if target.suffix == ".asdf" else open_header(target)
        with header:
            return header.get_crds_parameters(), references.OBSERVATORY

    @classmethod
    def build_config(cls, input: Any, **kwargs: Any) -> Any:
        """Gather the parameters, after a look at the file that may hold some."""
        check_parameter_file(kwargs.get("config_file"))
        with judging():
            return super().build_config(input, **kwargs)

    @classmethod
    def from_config_file(cls, config_file: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a step from a parameter file, after a look at it."""
        check_parameter_file(config_file)
        return super().from_config_file(config_file, *args, **kwargs)

    @classmethod
    def from_config_section(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a step; a parameter of another type or name is an OptionError."""
        with judging():
            return super().from_config_section(*args, **kwargs)

    @classmethod
    def get_config_from_reference(
        cls, dataset: Any, disable: bool | None = None, crds_observatory: str | None = None
    ) -> Any:
        """Look for a parameter reference, unless CRDS is not set up."""
        if not references.crds_is_configured():
            return cls._empty_config()
        return super().get_config_from_reference(
            dataset, disable=disable, crds_observatory=crds_observatory
        )

    @classmethod
    def _get_config_from_parameters(cls, crds_parameters: Any, crds_observatory: str) -> Any:
        ask = super()._get_config_from_parameters
        try:
            return references.ask_crds(lambda: ask(crds_parameters, crds_observatory))
        except references.no_answer() as error:
            log.warning(
                "No step parameters from CRDS, the defaults are used (%s); check CRDS_PATH and "
                "CRDS_SERVER_URL, or set STPIPE_DISABLE_CRDS_STEPPARS=true",
                error,
            )
            return cls._empty_config()

    def finalize_result(self, result: Any, reference_files_used: list[tuple[str, str]]) -> None:
        """Record the references, the CRDS context where CRDS can tell it, and the log so far.

        The log goes where the pipeline's own steps put it: ``cal_logs``, by the alias of the
        step or pipeline that was called.
        """
        if not is_model(result):
            return
        called = self
        while called.parent is not None:
            called = called.parent
        earlier = read_meta(result, "cal_logs") or {}
        alias = called.class_alias or type(called).__name__
        result.cal_logs = {**earlier, alias: list(called.log_records)}
        for kind, name in reference_files_used:
            setattr(getattr(result.meta.ref_file, kind), "name", name)  # noqa: B010
        context = references.context_used()
        if context is not None:
            result.meta.ref_file.crds.context_used, result.meta.ref_file.crds.sw_version = context


def _record_members(result: Any, job: Job) -> None:
    """Note the association and its members, by their base names."""
    if job.association is not None:
        result.meta.asn.table_name = job.association
    for attribute, member in (
        ("source_catalog", job.source_catalog),
        ("segmentation_map", job.segmentation_map),
        ("direct_image", job.direct_image),
    ):
        if isinstance(member, Path):
            setattr(result.meta, attribute, member.name)
    catalog = read_meta(result, "meta.source_catalog")
    if catalog is not None:
        result.meta.source_catalog = Path(catalog).name if isinstance(catalog, str) else "a table"


def _is_same_file(path: str, other: Path | None) -> bool:
    return other is not None and Path(path).exists() and other.samefile(path)


def _check_file(path: Path) -> None:
    """Look at the headers of a target before its data model is opened."""
    if path.suffix.lower() != ".asdf":
        Exposure.from_file(path).close()
