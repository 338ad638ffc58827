"""A real PostgreSQL that a test may stop, as if its machine had died, and start again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import unavailable
from tests.ports import free_port

__all__ = ["Postgres", "postgres"]

_LOOPBACK, _USER, _PASSWORD = "127.0.0.1", "ml_assets", "tests"


@dataclass(frozen=True)
class Postgres:
    """A server on its own port, which stays the same."""

    binaries: Path
    folder: Path
    host: str
    port: int
    settings: Sequence[str]
    account: str | None
    """Account that runs the server, which refuses to run as root; None if this process is not root's."""

    @property
    def url(self) -> str:
        """URL of the database that each server has."""
        return f"postgresql://{_USER}:{_PASSWORD}@{self.host}:{self.port}/postgres"

    def new_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        import psycopg2

        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        try:
            connection.cursor().execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        return self.url.removesuffix("postgres") + name

    def start(self) -> None:
        """Start the server and wait until it accepts queries."""
        settings = [f"listen_addresses={self.host}", "unix_socket_directories=", "fsync=off", *self.settings]
        options = " ".join([f"-p {self.port}", *(f"-c {each}" for each in settings)])
        self.control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Cut all connections, and leave the data as after a crash."""
        self.control("stop", "-m", "immediate")

    def control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", *arguments)

    def run(self, program: str, *arguments: str) -> None:
        # The server inherits the program's open files, so a pipe would never end.
        with (self.folder / "said").open("w+") as said:
            ended = subprocess.run(
                [self.binaries / program, *arguments],
                user=self.account,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                check=False,
            )
            said.seek(0)
            assert ended.returncode == 0, said.read()


@contextmanager
def postgres(host: str = _LOOPBACK, settings: Sequence[str] = ()) -> Iterator[Postgres]:
    """Run a server with an empty database until the block ends.

    Args:
        host: address of this machine on which the server listens for clients from everywhere.
        settings: additional settings, as ``name=value``.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) or [Path(shutil.which("pg_ctl") or "")]
    if not found[-1].name:
        unavailable("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="ml-assets-postgres-"))
    server = Postgres(found[-1].parent, folder, host, free_port(host), settings, _account())
    try:
        secret = folder / "password"
        secret.write_text(_PASSWORD)
        if server.account:
            for path in (folder, secret):
                shutil.chown(path, server.account)
        # Dagster connects for each query, and the newer method costs both sides milliseconds each time.
        identity = ("-U", _USER, "--pwfile", str(secret), "-A", "md5")
        server.run("initdb", "-D", str(folder / "data"), *identity, "--no-sync", "--encoding", "UTF8", "--locale", "C")
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all md5\n")
        server.start()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> str | None:
    if os.geteuid():
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
