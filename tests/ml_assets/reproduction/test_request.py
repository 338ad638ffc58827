"""The request for a reproduction, which code of an earlier version reads."""

import json

import pytest

from ml_assets.reproduction.request import ReproductionRequest, parse_request
from ml_assets.resources.errors import ReproductionRefused

REQUEST = ReproductionRequest(asset="a/b", partition="x", storage_id=7, data_version="md5:1", tolerance=0.5)
WRITTEN = (
    '{"version":2,"asset":"a/b","partition":"x","storage_id":7,"data_version":"md5:1","tolerance":0.5,'
    '"allow_unpinned":false}'
)
"""Frozen: existing images will always read this form."""


def test_form_is_the_one_that_past_images_read() -> None:
    assert REQUEST.model_dump_json() == WRITTEN
    assert parse_request(WRITTEN) == REQUEST


def test_field_that_a_later_version_added_is_passed_over() -> None:
    assert parse_request(json.dumps(json.loads(WRITTEN) | {"added": 1})) == REQUEST


def test_another_form_is_refused_by_name() -> None:
    with pytest.raises(ReproductionRefused, match=r"has format 1, but the recorded code reads format 2"):
        parse_request(WRITTEN.replace('"version":2', '"version":1'))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not a JSON object with a version"),
        ("[]", "not a JSON object with a version"),
        (WRITTEN.replace('"storage_id":7,', ""), "storage_id: Field required"),
        (WRITTEN.replace("0.5", "-1"), "tolerance: Input should be greater than or equal to 0"),
    ],
)
def test_malformed_request_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ReproductionRefused, match=problem):
        parse_request(text)
