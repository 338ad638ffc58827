import re
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.dagster_internals import ExecuteStepArgs, InstanceRef
from ml_assets.executors import container_request
from ml_assets.executors.container_request import packed, unpacked
from ml_assets.executors.engine import RUN_LABEL
from tests.ml_assets.executors import process_jobs
from tests.ml_assets.executors.sample_requests import RUN


def test_arguments_come_through_a_command_line_as_they_were() -> None:
    arguments = ExecuteStepArgs(
        job_origin=dg.reconstructable(process_jobs.everything).get_python_origin(),
        run_id=RUN,
        step_keys_to_execute=["step with 'quotes' and\nlines"],
    )
    text = packed(arguments)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    assert dg.deserialize_value(unpacked(text), ExecuteStepArgs) == arguments


def test_steps_open_the_instance_without_what_costs_them_time(tmp_path: Path) -> None:
    storage = "{postgres: {postgres_url: 'postgresql://ml:assets@nowhere/dagster'}}"
    (tmp_path / "dagster.yaml").write_text(f"storage: {storage}\nrun_monitoring: {{enabled: true}}\n")
    whole = InstanceRef.from_dir(str(tmp_path))
    lean = container_request._for_steps(whole)
    assert "run_monitoring" in whole.settings
    assert "run_monitoring" not in lean.settings
    assert lean.storage_data
    assert lean.storage_data.config_dict["should_autocreate_tables"] is False
    (tmp_path / "dagster.yaml").write_text("")
    local = InstanceRef.from_dir(str(tmp_path))
    assert container_request._for_steps(local) == local


@pytest.mark.parametrize("key", [RUN_LABEL, "ml-assets/asset"])
def test_labels_are_qualified_names_of_kubernetes(key: str) -> None:
    assert re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", key)
