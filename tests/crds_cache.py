"""A small CRDS cache, in which the real client finds references: mappings, and the files."""

import hashlib
import os
import pprint
from pathlib import Path

DATES = ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")
CONTEXT = "jwst_0001.pmap"
NO_DIGEST = "0" * 40


class Cache:
    """Write a cache for the instruments named; add references, then point CRDS at it.

    A reference is selected by exposure type, and by date alone.
    """

    def __init__(self, root: Path):
        self.root = root
        self.types = {}
        for folder in ("mappings", "references", "config"):
            (root / folder / "jwst").mkdir(parents=True)

    def add(self, instrument, kind, files):
        """Let `files`, a dictionary from exposure type to file name or N/A, be of one type."""
        self.types.setdefault(instrument, {})[kind] = files

    def path(self, instrument, name):
        """Tell where a reference file belongs."""
        folder = self.root / "references" / "jwst" / instrument
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def write(self):
        """Write the mappings, and return the environment that makes CRDS use them."""
        (self.root / "config" / "jwst" / "ref_cache_subdir_mode").write_text("instrument")
        contexts = {}
        for instrument, kinds in self.types.items():
            rmaps = {kind.upper(): self._write_rmap(instrument, kind) for kind in kinds}
            name = f"jwst_{instrument}_0001.imap"
            self._write(name, "INSTRUMENT", ("REFTYPE",), rmaps, instrument=instrument.upper())
            contexts[instrument.upper()] = name
        self._write(CONTEXT, "PIPELINE", ("META.INSTRUMENT.NAME",), contexts)
        self._write_server_config()
        return {
            "CRDS_PATH": str(self.root),
            "CRDS_CONTEXT": CONTEXT,
            "CRDS_SERVER_URL": "https://127.0.0.1:9",
        }

    def _write_server_config(self):
        """Write what a server tells of itself; the client will not do without, even offline."""
        told = {
            "observatory": "jwst",
            "operational_context": CONTEXT,
            "bad_files_list": [],
            "last_synced": "2014-01-01 00:00:00",
            "crds_version": {"str": "made for a test"},
        }
        (self.root / "config" / "jwst" / "server_config").write_text(pprint.pformat(told))

    def _write_rmap(self, instrument, kind):
        name = f"jwst_{instrument}_{kind}_0001.rmap"
        cases = ",\n".join(
            f"    {exposure_type!r} : "
            + (repr(file) if file == "N/A" else f"UseAfter({{'2014-01-01 00:00:00' : {file!r}}})")
            for exposure_type, file in self.types[instrument][kind].items()
        )
        self._write(
            name,
            "REFERENCE",
            (("META.EXPOSURE.TYPE",), DATES),
            f"Match({{\n{cases},\n}})",
            instrument=instrument.upper(),
            filekind=kind,
            filetype=kind.upper(),
            classes=("Match", "UseAfter"),
            suffix=kind,
            text_descr="for tests",
        )
        return name

    def _write(self, name, mapping, parkey, selector, **more):
        header = {
            "mapping": mapping,
            "observatory": "JWST",
            "name": name,
            "parkey": parkey,
            "derived_from": "made for a test",
            "description": "made for a test",
            "sha1sum": NO_DIGEST,
            **more,
        }
        body = selector if isinstance(selector, str) else pprint.pformat(selector)
        text = f"header = {pprint.pformat(header)}\n\nselector = {body}\n"
        # The client checks the digest of all other lines.
        lines = [line for line in text.splitlines(keepends=True) if "sha1sum" not in line]
        digest = hashlib.sha1("".join(lines).encode()).hexdigest()
        text = text.replace(NO_DIGEST, digest)
        (self.root / "mappings" / "jwst" / name).write_text(text)


def environment(cache):
    """Return the whole environment of a process that is to use a cache."""
    return {**without_crds(), **cache.write()}


def without_crds():
    """Return the environment of a process for which CRDS is not set up."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CRDS")}
    clean.pop("STPIPE_DISABLE_CRDS_STEPPARS", None)
    return clean
