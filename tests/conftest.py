"""What every test may use."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

# A shell has what it runs in the background ignore an interrupt; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    *("fuzz", "simulate", "batch_faults", "soss_shapes", "soss_mixture", "soss_time"),
    *("startup", "soss_robust", "aliases"),
)
"""Files of few tests that take long: xdist, which begins with those of many, had them last."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    from xdist.scheduler import LoadFileScheduling

    class LongestFirst(LoadFileScheduling):
        def schedule(self):
            super().schedule()
            for name in reversed(LONG):
                if f"tests/test_{name}.py" in self.workqueue:
                    self.workqueue.move_to_end(f"tests/test_{name}.py", last=False)

    return LongestFirst(config, log) if config.getvalue("dist") == "loadfile" else None


@settings(max_examples=1)
@given(st.none())
def _try_nothing(_):
    """Have Hypothesis do what it does before its first example."""


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Keep what is there already out of the searches for garbage.

    Each run of a step begins with one, which would walk through all that the packages hold.
    """
    _try_nothing()  # Hypothesis looks for who holds the random states: before that is kept out
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
