"""Statements of provenance have the published form and name everything that contributed to their subject."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ml_assets.artifacts.statement import provenance_statement
from ml_assets.resources.provenance import (
    ArtifactKind,
    InputVersion,
    MlflowRun,
    ProvenanceRecord,
    RunEnvironment,
    Source,
)
from tests.ml_assets.artifacts.test_metadata import record

MD5, DIRECTORY = f"md5:{'3' * 32}", f"md5:{'4' * 32}.dir"
COMMIT = "c" * 40
TRAIN = f"registry.example:5000/ml-assets/train@sha256:{'7' * 64}"
INSIDE = RunEnvironment(
    target="docker", image=TRAIN, environment_digest=f"sha256:{'1' * 64}", python="CPython 3.11.7", dagster="1.13.27"
)

# The published form of in-toto.io/Statement/v1 and slsa.dev/provenance/v1, as strict as their text.
Uri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")]
Encoded = Annotated[str, StringConstraints(min_length=1)]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ResourceDescriptor(Form):
    name: str | None = None
    uri: Uri | None = None
    digest: dict[str, Encoded] | None = None
    content: str | None = None
    downloadLocation: Uri | None = None  # noqa: N815
    mediaType: str | None = None  # noqa: N815
    annotations: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> "ResourceDescriptor":
        assert self.uri or self.digest or self.content
        for algorithm in {"md5", "sha256", "gitCommit"} & (self.digest or {}).keys():
            value = (self.digest or {})[algorithm]
            assert len(value) == {"md5": 32, "sha256": 64, "gitCommit": 40}[algorithm]
            assert set(value) <= set("0123456789abcdef")
        return self


class Subject(ResourceDescriptor):
    digest: dict[str, Encoded] = Field(min_length=1)


class BuildDefinition(Form):
    buildType: Uri  # noqa: N815
    externalParameters: dict[str, Any]  # noqa: N815
    internalParameters: dict[str, Any] = {}  # noqa: N815
    resolvedDependencies: list[ResourceDescriptor] = []  # noqa: N815


class Builder(Form):
    id: Uri
    builderDependencies: list[ResourceDescriptor] = []  # noqa: N815
    version: dict[str, str] = {}


class Metadata(Form):
    invocationId: str | None = None  # noqa: N815
    startedOn: Annotated[AwareDatetime, Field(strict=False)] | None = None  # noqa: N815
    finishedOn: Annotated[AwareDatetime, Field(strict=False)] | None = None  # noqa: N815


class RunDetails(Form):
    builder: Builder
    metadata: Metadata = Metadata()
    byproducts: list[ResourceDescriptor] = []


class Predicate(Form):
    buildDefinition: BuildDefinition  # noqa: N815
    runDetails: RunDetails  # noqa: N815


class Statement(Form):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicateType: Literal["https://slsa.dev/provenance/v1"]  # noqa: N815
    predicate: Predicate


def stated(made: ProvenanceRecord) -> Statement:
    return Statement.model_validate(provenance_statement(made))


def dependencies(statement: Statement) -> dict[str, ResourceDescriptor]:
    return {str(each.name): each for each in statement.predicate.buildDefinition.resolvedDependencies}


def trained(**fields: Any) -> ProvenanceRecord:
    given = {
        "partition": "2013-05-01",
        "data_version": DIRECTORY,
        "inputs": (InputVersion(asset="departures", partition="2013-05-01", data_version=MD5, storage_id=7),),
        "environment": INSIDE,
        "source": Source(commit=COMMIT, dirty=False, repository="git@code.example:owner/project.git"),
        "parameters": {"depth": 6},
        "mlflow": MlflowRun(
            run_id="9f3c", experiment_id="1", tracking_uri="x", registered_model="delay", model_version="3"
        ),
    }
    return record(**given | fields)


def test_subject_is_the_model_by_its_digest() -> None:
    (subject,) = stated(trained()).subject
    assert (subject.name, subject.uri) == ("model@2013-05-01", "models:/delay/3")
    assert subject.digest == {"dvcDirectoryMd5": "4" * 32}


def test_data_image_and_commit_are_resolved_dependencies() -> None:
    found = dependencies(stated(trained()))
    assert found["departures@2013-05-01"].digest == {"md5": "3" * 32}
    assert found[TRAIN].digest == {"sha256": "7" * 64}
    assert found[TRAIN].uri == (
        f"pkg:oci/train@sha256%3A{'7' * 64}?repository_url=registry.example%3A5000/ml-assets/train"
    )
    assert found["source"].digest == {"gitCommit": COMMIT}
    assert found["source"].uri == f"git+https://code.example/owner/project@{COMMIT}"


def test_parameters_builder_and_invocation_are_named() -> None:
    predicate = stated(trained()).predicate
    assert predicate.buildDefinition.externalParameters["parameters"] == {"depth": 6}
    assert predicate.runDetails.builder.id == "urn:ml-assets:target:docker"
    assert predicate.runDetails.metadata.invocationId == "run/model/0"
    assert predicate.runDetails.metadata.startedOn == trained().started_at
    assert [each.annotations for each in predicate.runDetails.byproducts] == [{"runId": "9f3c"}]


def test_what_is_not_containerized_or_committed_says_so() -> None:
    bare = RunEnvironment(target="local", environment_digest=f"sha256:{'1' * 64}", python="CPython", dagster="1")
    found = dependencies(stated(trained(environment=bare, source=Source())))
    assert found["environment (not containerized)"].digest == {"sha256": "1" * 64}
    assert "source" not in found
    dirty = dependencies(stated(trained(source=Source(commit=COMMIT, dirty=True, diff_digest=f"sha256:{'8' * 64}"))))
    assert dirty["source"].annotations == {"dirty": True, "diffDigest": f"sha256:{'8' * 64}"}


def test_subject_of_an_image_is_its_image_digest() -> None:
    made = trained(kind=ArtifactKind.IMAGE, made_image=TRAIN, data_version=f"sha256:{'1' * 64}", mlflow=None)
    (subject,) = stated(made).subject
    assert (subject.name, subject.digest) == ("model@2013-05-01", {"sha256": "7" * 64})
