"""Statements of provenance name everything upstream of their subject."""

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.statement import origin_statement
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.artifacts.test_statement import COMMIT, MD5, TRAIN, Statement, dependencies, trained

OTHER = f"md5:{'5' * 32}"


def test_what_lies_further_up_is_named_once_and_told_apart() -> None:
    read = Node("departures", ArtifactKind.FEATURE_SET, "2013-05-01", MD5, 7, image=TRAIN, commit=COMMIT, dirty=False)
    older = Node("flights", ArtifactKind.DATASET, data_version=OTHER, storage_id=3, commit="d" * 40, dirty=True)
    gone = Node("weather", NodeKind.MISSING, data_version="3 degrees")
    statement = Statement.model_validate(origin_statement(trained(), [read, older, gone]))
    assert [each.name for each in statement.predicate.buildDefinition.resolvedDependencies] == [
        "departures@2013-05-01",
        TRAIN,
        "source",
        "flights",
        "weather",
        "source",
    ]
    direct = {
        name: each.annotations and each.annotations.get("direct") for name, each in dependencies(statement).items()
    }
    assert direct == {"departures@2013-05-01": True, TRAIN: None, "flights": False, "weather": False, "source": False}
    assert dependencies(statement)["source"].annotations == {"direct": False, "dirty": True}
    assert dependencies(statement)["weather"].digest == {"dataVersion": "3 degrees"}
