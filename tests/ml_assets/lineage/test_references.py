"""References are parsed in every possible form of their text, and refused if the text fits none."""

import pytest

from ml_assets.lineage.references import Interpretation, ReferenceKind, parse_reference
from ml_assets.resources.errors import UnknownReference

MD5 = "0123456789abcdef0123456789abcdef"
SHA256 = MD5 + MD5


def kinds(text: str) -> set[ReferenceKind]:
    return {interpretation.kind for interpretation in parse_reference(text).interpretations}


def test_any_text_may_be_an_asset_an_event_or_a_version() -> None:
    assert kinds("key/of/asset@2013-01") == {ReferenceKind.EVENT, ReferenceKind.ASSET, ReferenceKind.VERSION}


@pytest.mark.parametrize(
    ("digits", "kind", "shortest"),
    [
        (MD5, ReferenceKind.VERSION, 6),
        (MD5, ReferenceKind.COMMIT, 7),
        (MD5, ReferenceKind.MLFLOW_RUN, 8),
        (MD5, ReferenceKind.DAGSTER_RUN, 8),
    ],
)
def test_digits_are_read_from_the_shortest_length_on(digits: str, kind: ReferenceKind, shortest: int) -> None:
    assert Interpretation(kind, digits[:shortest], is_prefix=True) in parse_reference(digits[:shortest]).interpretations
    assert (
        Interpretation(kind, digits[: shortest - 1], is_prefix=True)
        not in parse_reference(digits[: shortest - 1]).interpretations
    )


def test_a_whole_md5_may_still_be_the_start_of_a_directory() -> None:
    assert (
        Interpretation(ReferenceKind.VERSION, f"md5:{MD5}", is_prefix=True)
        in parse_reference(f"md5:{MD5}").interpretations
    )


def test_a_whole_sha256_is_the_start_of_nothing() -> None:
    assert not any(interpretation.is_prefix for interpretation in parse_reference(f"sha256:{SHA256}").interpretations)


def test_digits_may_be_written_in_capitals() -> None:
    assert (
        Interpretation(ReferenceKind.VERSION, f"sha256:{SHA256}")
        in parse_reference(f"SHA256:{SHA256.upper()}").interpretations
    )


def test_an_image_reference_is_one() -> None:
    assert ReferenceKind.IMAGE in kinds(f"registry.example:5000/train@sha256:{SHA256}")


def test_a_dashed_id_is_a_dagster_run() -> None:
    assert ReferenceKind.DAGSTER_RUN in kinds("1a2b3c4d-0000-4000-8000-000000000000")


def test_a_dirty_commit_can_be_pasted_as_it_is_shown() -> None:
    interpretations = parse_reference("abc1234+dirty").interpretations
    assert Interpretation(ReferenceKind.COMMIT, "abc1234", is_prefix=True) in interpretations


@pytest.mark.parametrize("text", ["flights\0", b"flights\xff".decode(errors="surrogateescape"), "a@" * 5000])
def test_what_no_database_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UnknownReference, match="cannot be a reference"):
        parse_reference(text)


def test_a_model_version_is_nothing_else() -> None:
    assert parse_reference("models:/flight-delay/3").interpretations == (
        Interpretation(ReferenceKind.MODEL_VERSION, "models:/flight-delay/3"),
    )


@pytest.mark.parametrize(
    "text", ["", "  ", "models:/flight-delay", "models:/flight-delay@champion", "models:/a/b/3", "md5:abc", "sha256:"]
)
def test_text_of_no_form_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UnknownReference, match="Next: "):
        parse_reference(text)
