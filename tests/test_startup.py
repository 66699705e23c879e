"""The fast first opening of a model: that it is fast, and leaves no trace."""

import subprocess
import sys

import pytest

from webbkg import startup


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def rate(tmp_path):
    from stdatamodels.jwst import datamodels

    path = tmp_path / "one_rate.fits"
    with datamodels.ImageModel((4, 4)) as model:
        model.save(path)
    return path


def test_opening_a_model_leaves_yaml_collector_and_scipy_as_they_were(rate):
    found = run(f"""
import gc, sys, yaml
loader = yaml.SafeLoader
from webbkg.files.models import open_model
open_model({str(rate)!r})
assert "gwcs" in sys.modules
assert yaml.SafeLoader is loader and gc.isenabled()
import scipy
from scipy import linalg, optimize
assert type(linalg).__name__ == type(optimize).__name__ == "module"
assert optimize is sys.modules["scipy.optimize"]
print(optimize.brentq(lambda x: x - 2, 0, 5))
""")
    assert float(found) == pytest.approx(2)


def test_opening_a_model_does_not_import_what_only_an_inverse_needs(rate):
    found = run(f"""
import sys
from webbkg.files.models import open_model
open_model({str(rate)!r})
print("scipy.optimize" in sys.modules)
""")
    assert found == "False"


def test_what_gwcs_took_for_scipy_works_when_it_is_needed(rate):
    found = run(f"""
import sys
from webbkg.files.models import open_model
open_model({str(rate)!r})
taken = {{
    vars(module)["optimize"]
    for name, module in sys.modules.items()
    if name.startswith("gwcs") and "optimize" in vars(module)
}}
for optimize in taken:
    print(optimize.brentq(lambda x: x - 2, 0, 5))
""")
    assert {float(value) for value in found.split()} == {2.0}


def test_a_stand_in_gives_the_attributes_of_its_module_and_no_others():
    stand_in = startup._Deferred("math")
    assert stand_in.floor(2.5) == 2
    with pytest.raises(AttributeError):
        _ = stand_in.no_such_function
    assert not hasattr(stand_in, "__path__")


def test_a_module_that_arrives_meanwhile_stays(monkeypatch):
    import scipy

    with startup._deferred("scipy", "nothing_of_that_name"):
        assert isinstance(scipy.nothing_of_that_name, startup._Deferred)
    assert "nothing_of_that_name" not in vars(scipy)
    with startup._deferred("scipy", "arrived"):
        monkeypatch.setattr(scipy, "arrived", sys, raising=False)
    assert scipy.arrived is sys
