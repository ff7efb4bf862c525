"""Imports happen without the garbage collector, which then leaves modules alone."""

import gc
import importlib.util
import subprocess
import sys

import pytest

from siglip_study.base.jobs import loading


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_is_off_inside_and_on_again_even_when_an_import_fails():
    with pytest.raises(ImportError), loading():
        assert not gc.isenabled()
        raise ImportError("no such library")
    assert gc.isenabled()


def test_who_has_switched_it_off_finds_it_off():
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()


def test_what_was_imported_is_never_searched_again(tmp_path, monkeypatch):
    (tmp_path / "library_of_a_test.py").write_text("things = [[] for _ in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with loading():
        import library_of_a_test
    assert gc.get_freeze_count() > 1000
    searched = {id(thing) for thing in gc.get_objects()}
    assert not searched & {id(thing) for thing in library_of_a_test.things}


def test_where_nothing_is_imported_garbage_stays_garbage():
    # As when a second model is built in the same process: the first one must be freed.
    with loading():
        pass
    assert gc.get_freeze_count() == 0


def test_a_package_to_do_without_counts_as_not_installed_until_the_end(tmp_path, monkeypatch):
    (tmp_path / "needless_to_a_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with loading(without="needless_to_a_test"):
        assert importlib.util.find_spec("needless_to_a_test") is None
        with pytest.raises(ImportError):
            import needless_to_a_test
    import needless_to_a_test  # noqa: F401


def test_a_package_that_is_there_already_stays(tmp_path):
    with loading(without="json"):
        import json
    assert json is sys.modules["json"]


def test_a_job_ends_without_a_search():
    code = (
        "import gc, tempfile, atexit\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "from siglip_study.base.jobs import job\n"
        "with job(tempfile.mkdtemp() + '/log'): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
