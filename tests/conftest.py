"""What every test may use."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

# A shell has what it runs in the background ignore an interrupt; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Keep what is there already out of the searches for garbage.

    Each run of a step begins with one, which would walk through all that the packages hold.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_crds(monkeypatch):
    """Hide the CRDS settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("CRDS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """Keep headers of the tests out of the user's cache."""
    monkeypatch.setenv("WEBBKG_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of real data; skip where there is none."""
    beside_checkout = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WEBBKG_REAL_DATA", beside_checkout))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set WEBBKG_REAL_DATA to its folder")
    return folder
