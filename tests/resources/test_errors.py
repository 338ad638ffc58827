import pickle

import pytest

from ml_assets.resources import errors
from ml_assets.resources.errors import ContentMissing, MlAssetsError, StoreError

every_error = pytest.mark.parametrize("name", errors.__all__)


@every_error
def test_error_says_what_happened_to_which_asset_and_what_to_do(name: str) -> None:
    error = getattr(errors, name)("the disk is full", next_step="make room", asset="flights@2013-01")
    assert str(error) == "flights@2013-01: the disk is full. Next: make room."
    assert isinstance(error, MlAssetsError)


def test_error_without_an_asset_names_none() -> None:
    assert str(StoreError("the disk is full", next_step="make room")) == "the disk is full. Next: make room."


def test_asset_is_added_where_it_is_known_and_never_replaced() -> None:
    error = ContentMissing("it is gone", next_step="store it again")
    assert error.for_asset("flights") is error
    assert error.for_asset("departures").asset == "flights"


@every_error
def test_error_reaches_another_process_whole(name: str) -> None:
    error = getattr(errors, name)("it is gone", next_step="store it again", asset="flights")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.what, copy.next_step, copy.asset) == (str(error), error.what, error.next_step, error.asset)
