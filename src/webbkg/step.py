"""The stpipe step: its hooks, and nothing else; the work is done in `webbkg.run`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from stpipe import Step

from webbkg import run, startup
from webbkg.errors import OptionError, ReferenceUnavailableError
from webbkg.files.associations import resolve
from webbkg.files.crds import OBSERVATORY, Crds, crds_is_configured, current_crds, patience
from webbkg.files.models import is_model, open_header, open_model
from webbkg.files.output import make_folder, save_whole
from webbkg.files.parameters import check_parameter_file, judging, with_plain_names
from webbkg.files.suffixes import strip_suffix
from webbkg.modes import Shared
from webbkg.options import check_is_text, parameters

log = logging.getLogger(__name__)

SPECIFICATION = "\n".join(
    [
        'output_ext = string(default=".fits")  # Default type of output',
        *(one.specification for one in parameters().values()),
    ]
)


FILES = ("source_mask", "template", "wfss_mask")
"""Parameters that name files."""


def _check_files(given: Mapping[str, Any]) -> None:
    """Refuse an image in the place of its file's name, of which stpipe's error would say nothing."""
    for name in FILES:
        if hasattr(given.get(name), "shape"):
            check_is_text(given[name], name)


class BackgroundStep(Step):
    """Subtract the background of a JWST exposure.

    Imaging and most spectroscopy: the sigma-clipped average of background exposures. WFSS: a
    reference sky, scaled to the source-free pixels. NIRISS SOSS: the best of a library of sky
    templates, scaled on the two sides of its jump; segments given together are fitted together.
    """

    class_alias = "bkg_subtract"
    bkg_suffix = run.COMBINED_SUFFIX
    reference_file_types: ClassVar = ["bkg", "wavelengthrange"]
    _log_records_formatter = run.LineFormatter()
    # References are asked for when a target needs them; an image needs none.
    prefetch_references = False
    spec = SPECIFICATION

    progress: Callable[[int, int], None] | None = None
    """Called with the parts done and their number; not a parameter."""

    lazy_results = True
    """Whether results that are saved take their large planes from the product when they are asked
    for; else they are held in memory. Not a parameter."""

    _run: _Run | None = None
    _only_products = False

    def __init__(self, *given: Any, **named: Any) -> None:
        _check_files(named)
        super().__init__(*given, **named)

    def run(self, *args: Any) -> Any:
        """Run the step as stpipe does, after making sure of the output folder."""
        if self.output_dir:
            make_folder(self.output_dir)
        current = self._run = _Run(self, self._only_products)
        self._only_products = False
        try:
            return super().run(*args)
        finally:
            self._run = None
            current.forget()

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
        return (self._run or _Run(self, False)).process(target, backgrounds)

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
        found = None if self._run is None else self._run.find(model)
        if found is not None and suffix is None and not components:
            return self._run and self._run.write(found)
        if self.output_use_model or (output_file is None and not self.search_output_file):
            output_file, idx = model.meta.filename, None
        path = self.make_output_path(basepath=output_file, suffix=suffix, idx=idx, **components)
        log.info("Saved %s", save_whole(model, path))
        return path

    def get_pars(self, full_spec: bool = True) -> dict[str, Any]:
        """Tell the parameters, as they can be saved."""
        _check_files(vars(self))
        return with_plain_names(super().get_pars(full_spec=full_spec))

    def default_output_file(self, input_file: str | None = None) -> str:
        """Name the product after its input; a gzipped one loses that ending."""
        name = str(super().default_output_file(input_file))
        return name[: -len(".gz")] if name.lower().endswith(".gz") else name

    def set_primary_input(self, obj: Any, exclusive: bool = True) -> None:
        """Note what products are named after.

        The command line says so before it runs the step, once, and wants nothing but the product.
        """
        self._only_products = self._run is None
        if self._only_products and startup.is_command("strun"):
            startup.own_process()
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
    def _parse_class_and_name(
        cls, config: Any, parent: Any = None, name: Any = None, config_file: Any = None
    ) -> Any:
        """Take a parameter file that the reference implementation saved as one of this class."""
        if cls is BackgroundStep and str(config.get("class", "")).startswith("jwst.background."):
            config["class"] = f"{cls.__module__}.{cls.__name__}"
        return super()._parse_class_and_name(config, parent, name, config_file)

    @classmethod
    def _get_crds_parameters(cls, dataset: Any) -> tuple[dict[str, Any], str]:
        return _selects_by(dataset)

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
    def from_config_section(cls, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a step; a parameter of another type or name is an OptionError."""
        _check_files(config)
        with judging():
            return super().from_config_section(config, *args, **kwargs)

    @classmethod
    def get_config_from_reference(
        cls, dataset: Any, disable: bool | None = None, crds_observatory: str | None = None
    ) -> Any:
        """Look for a parameter reference, unless CRDS is not set up."""
        if not crds_is_configured():
            return cls._empty_config()
        return super().get_config_from_reference(
            dataset, disable=disable, crds_observatory=crds_observatory
        )

    @classmethod
    def _get_config_from_parameters(cls, crds_parameters: Any, crds_observatory: str) -> Any:
        ask = super()._get_config_from_parameters
        try:
            return current_crds().ask(
                "parameters", lambda: ask(crds_parameters, crds_observatory), patience()
            )
        except ReferenceUnavailableError as error:
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
        item = None if self._run is None else self._run.find(result)
        if (item is not None and item.product is not None) or not is_model(result):
            return  # written already, or nothing to write into
        called = _called(self)
        alias = called.class_alias or type(called).__name__
        lines, used, crds = list(called.log_records), reference_files_used, Crds()
        if item is not None and self._run is not None:
            lines, used, crds = self._run.lines_of(item), item.references, self._run.crds
        run.finish(result, used, {alias: lines}, crds)


def _selects_by(dataset: Any) -> tuple[dict[str, Any], str]:
    """Return what CRDS selects by: the metadata of the (first) target, without its arrays."""
    if is_model(dataset) and not isinstance(dataset, Sequence):
        return dataset.get_crds_parameters(), dataset.crds_observatory
    if not crds_is_configured():
        return {}, OBSERVATORY
    target = resolve(dataset, []).targets[0]
    if is_model(target):
        return target.get_crds_parameters(), target.crds_observatory
    with open_model(target) if target.suffix == ".asdf" else open_header(target) as header:
        return header.get_crds_parameters(), OBSERVATORY


def _called(step: Any) -> Any:
    """Return the step or pipeline that was called, of which `step` may be a part."""
    while step.parent is not None:
        step = step.parent
    return step


class _Run:
    """One call of a step: its items, and which lines of the log are whose."""

    def __init__(self, step: BackgroundStep, only_products: bool) -> None:
        self._step = step
        self.crds = Crds()
        self._groups: list[list[run.Item]] = []
        self._spans: list[tuple[list[run.Item], int, int]] = []
        self._saves = step.save_results or bool(step.output_file)
        as_fits = Path(step.make_output_path(basepath=step.output_file)).suffix == ".fits"
        alone = step.parent is None and as_fits and not (step._pre_hooks or step._post_hooks)
        self._only_products = only_products and alone
        self._setting = run.Setting(
            parameters={**step.get_pars(), **_overrides(step)},
            name_product=self._name_product,
            crds=self.crds,
            input_dir=step.input_dir,
            progress=step.progress,
            product_only=self._only_products,
            without_models=self._saves and alone and (only_products or step.lazy_results),
        )

    def process(self, target: Any, backgrounds: Any) -> Any:
        """Process every group of what a call names; returns the results, or the only one."""
        step = self._step
        job = resolve(target, backgrounds, step.bkg_list, input_dir=step.input_dir)
        for warning in job.warnings:
            log.warning(warning)
        items = run.items_of(job)
        if step.output_file and len(items) > 1:
            raise OptionError(
                f"output_file names one product, and there are {len(items)} targets "
                f"(got {step.output_file!r}); choose an output_dir or a suffix instead"
            )
        self._groups = run.grouped(items)
        if len(items) > 1:
            self._setting = replace(self._setting, shared=Shared())
        run.check_report(self._setting)
        if self._saves:
            run.check_products(items, self._setting)
        for group in self._groups:
            first = len(_called(step).log_records)
            run.process(group, self._setting)
            for item in group:
                item.log = list(_called(step).log_records)[first:]
            if not self._saves:
                run.write_backgrounds(group, self._setting)
            self._spans.append((group, first, len(_called(step).log_records)))
            if any(item.is_draft for item in group):
                self._write_now(group)
        results = [item.result for item in items]
        return results[0] if len(results) == 1 else results

    def _write_now(self, group: list[run.Item]) -> None:
        """Write what was made without models; who wants the results gets them from the products."""
        from webbkg.files.lazy import open_product

        alias = type(self._step).class_alias
        for item in group:
            run.finish(item.result, item.references, {alias: self.lines_of(item)}, self.crds)
        run.write(group, self._setting)
        for item in group:
            if item.is_draft and item.product is not None:
                item.result = None if self._only_products else open_product(item.product)

    def forget(self) -> None:
        """Let go of the items, so that a result is freed when its caller drops it."""
        self._groups, self._spans = [], []

    def find(self, model: Any) -> run.Item | None:
        """Find the item whose result a model is."""
        return next((i for group in self._groups for i in group if i.result is model), None)

    def lines_of(self, item: run.Item) -> list[str]:
        """Take the log lines of a call that are not of other items alone."""
        lines = list(_called(self._step).log_records)
        for group, first, stop in reversed(self._spans):
            if item not in group:
                del lines[first:stop]
        return lines

    def write(self, item: run.Item) -> str:
        """Write the product of an item, with those of its group, unless that is done."""
        group = next(group for group in self._groups if item in group)
        if item.product is None:
            run.write(group, self._setting)
        return str(item.product)

    def _name_product(self, item: run.Item, suffix: str | None) -> Path:
        step = self._step
        name = None if item.alone else item.name
        if name is None:
            name = step.output_file
        if step.output_use_model or (name is None and not step.search_output_file):
            name = item.name
        return Path(step.make_output_path(basepath=name, suffix=suffix))


def _overrides(step: Any) -> dict[str, Any]:
    kinds = step.reference_file_types
    return {f"override_{kind}": step.get_ref_override(kind) for kind in kinds}
