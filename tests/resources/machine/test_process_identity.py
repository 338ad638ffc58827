import dataclasses
import subprocess
import sys

import pytest

from ml_assets.resources.machine.process_identity import ProcessIdentity


def test_identity_reads_back_what_it_wrote() -> None:
    here = ProcessIdentity.current()
    assert ProcessIdentity.parse(str(here)) == here


def test_process_that_runs_is_not_gone() -> None:
    assert not ProcessIdentity.current().is_gone()


def test_process_that_ended_is_gone() -> None:
    code = "from ml_assets.resources.machine.process_identity import ProcessIdentity; print(ProcessIdentity.current())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ProcessIdentity.parse(ended).is_gone()


def test_another_process_with_the_same_number_does_not_keep_it_alive() -> None:
    assert dataclasses.replace(ProcessIdentity.current(), started="1").is_gone()


def test_process_before_a_restart_of_this_machine_is_gone() -> None:
    here = ProcessIdentity.current()
    assert dataclasses.replace(here, boot="earlier").is_gone() == bool(here.machine)


@pytest.mark.parametrize("place", ["host", "machine", "namespace"])
def test_process_of_another_place_is_never_called_gone(place: str) -> None:
    elsewhere = dataclasses.replace(ProcessIdentity.current(), started="1", **{place: "elsewhere"})
    assert not elsewhere.is_gone()


def test_text_that_is_no_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="identity"):
        ProcessIdentity.parse('{"pid": 1}')
