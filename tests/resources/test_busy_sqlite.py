"""A busy SQLite database is waited for."""

import sqlite3
import threading
from pathlib import Path

import sqlalchemy as sql

from ml_assets.resources.busy_sqlite import wait_for_busy_sqlite


def test_connection_waits_until_the_other_writer_has_ended(tmp_path: Path) -> None:
    wait_for_busy_sqlite()
    wait_for_busy_sqlite()
    url = f"sqlite:///{tmp_path / 'database.db'}"
    impatient = sql.create_engine(url, connect_args={"timeout": 0})
    patient = sql.create_engine(url, connect_args={"timeout": 100})
    with patient.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 100_000
    with impatient.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
        connection.exec_driver_sql("CREATE TABLE events (id INTEGER)")
    other = sqlite3.connect(tmp_path / "database.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    ending = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    ending.start()
    with impatient.begin() as connection:
        connection.exec_driver_sql("INSERT INTO events VALUES (1)")
    ending.join()
    other.close()
    for engine in (impatient, patient):
        engine.dispose()
