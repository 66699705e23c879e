"""CRDS that is slow, silent or absent: the patience of each question, and no trace afterwards."""

import logging
import sys
import threading
import time

import pytest

from webbkg.errors import MissingFileError, ReferenceUnavailableError
from webbkg.files import crds as crds_module
from webbkg.files.crds import Crds, patience

LOG = logging.getLogger("CRDS")


@pytest.fixture
def silent():
    """Return a question that gets no answer before the test is over."""
    over = threading.Event()
    yield over.wait
    over.set()
    for thread in threading.enumerate():
        if thread.name == "webbkg-crds":
            thread.join()
    assert LOG.filters == []
    assert not LOG.disabled


@pytest.fixture
def set_up(monkeypatch):
    monkeypatch.setenv("CRDS_SERVER_URL", "https://127.0.0.1:9")


def test_a_slow_parameter_look_up_does_not_bar_the_reference(silent, set_up, monkeypatch, tmp_path):
    from stpipe import crds_client

    reference = tmp_path / "jwst_sky_0001.fits"
    reference.touch()

    def slow(parameters, kind, observatory):
        time.sleep(0.3)  # longer than the patience of the look-up, shorter than its own
        return str(reference)

    monkeypatch.setattr(crds_client, "get_reference_file", slow)
    crds = Crds()
    with pytest.raises(ReferenceUnavailableError, match=r"no answer within 0\.1 s"):
        crds.ask("parameters", silent, 0.1)
    assert crds.find_reference("bkg", None, dict) == (str(reference), "crds://jwst_sky_0001.fits")


def test_a_question_without_an_answer_is_waited_for_once_in_a_run(silent):
    crds = Crds()
    start = time.monotonic()
    for _ in range(20):
        with pytest.raises(ReferenceUnavailableError, match=r"no answer within 0\.2 s"):
            crds.ask("references", silent, 0.2)
    assert 0.2 <= time.monotonic() - start < 2
    assert Crds().ask("references", lambda: 5, 0.2) == 5  # another run asks again


def test_a_client_that_ends_the_process_does_not(silent):
    crds = Crds()
    asked = []
    for _ in range(2):
        with pytest.raises(ReferenceUnavailableError, match="neither a server in reach"):
            crds.ask("context", lambda: asked.append(1) or sys.exit(-1), 5)
    assert asked == [1]


def test_an_error_is_an_answer_and_the_next_target_is_asked_for(silent):
    def no_such_type():
        raise KeyError("no bkg for NIS_AMI")

    crds = Crds()
    with pytest.raises(ReferenceUnavailableError, match="no bkg for NIS_AMI"):
        crds.ask("references", no_such_type, 5)
    assert crds.ask("references", lambda: "sky.fits", 5) == "sky.fits"


def test_overlapping_questions_leave_the_logger_as_it_was_and_others_lines_alone(silent):
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    LOG.addHandler(handler)
    level, filters, handlers = LOG.level, list(LOG.filters), list(LOG.handlers)
    together = threading.Barrier(5)

    def question(number):
        LOG.warning("of question %d", number)
        together.wait(5)
        LOG.warning("late, of question %d", number)
        return number

    answers = {}

    def ask(number):
        answers[number] = Crds().ask("references", lambda: question(number), 5)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    try:
        for asker in askers:
            asker.start()
        LOG.warning("of somebody else")  # while all four are being asked
        together.wait(5)
        for asker in askers:
            asker.join()
        assert answers == {number: number for number in range(4)}
        assert heard == ["of somebody else"]
        assert (LOG.level, LOG.filters, LOG.handlers) == (level, filters, handlers)
        assert not LOG.disabled
    finally:
        LOG.removeHandler(handler)


@pytest.mark.parametrize(
    ("setting", "seconds"),
    [("2.5", 2.5), ("", 10), ("soon", 10), ("nan", 10), ("-1", 10), ("inf", threading.TIMEOUT_MAX)],
)
def test_the_client_s_own_setting_is_respected(monkeypatch, setting, seconds):
    monkeypatch.setenv("CRDS_CLIENT_TIMEOUT_SECONDS", setting)
    assert patience(10) == seconds
    assert Crds().ask("context", lambda: "jwst_1.pmap", patience(10)) == "jwst_1.pmap"


def test_the_context_is_not_waited_for_where_crds_was_silent(silent, set_up, monkeypatch):
    from stpipe import crds_client

    monkeypatch.setattr(crds_client, "get_context_used", lambda _: "jwst_0001.pmap")
    crds = Crds()
    with pytest.raises(ReferenceUnavailableError):
        crds.ask("parameters", silent, 0.1)
    assert crds.context_used() is None
    assert crds.ask("references", lambda: "sky.fits", 5) == "sky.fits"
    assert crds.context_used() == ("jwst_0001.pmap", crds_client.get_svn_version())


def test_an_override_is_taken_without_asking(tmp_path, monkeypatch):
    monkeypatch.setattr(crds_module, "_Asking", None)
    mine = tmp_path / "mine.fits"
    crds = Crds()
    with pytest.raises(MissingFileError, match=r"override_bkg: .*mine\.fits: no such file"):
        crds.find_reference("bkg", str(mine), dict)
    mine.touch()
    assert crds.find_reference("bkg", str(mine), dict) == (str(mine), str(mine))
    assert crds.find_reference("bkg", "N/A", dict) == (None, "N/A")
    assert crds.find_reference("bkg", "", dict) == (None, None)


def test_without_crds_the_error_says_what_to_set():
    with pytest.raises(ReferenceUnavailableError, match=r"bkg .*override_bkg.*CRDS_PATH"):
        Crds().find_reference("bkg", None, dict)
