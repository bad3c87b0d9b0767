"""A PostgreSQL server of the tests' own: in a temporary folder, on a loopback port, as a user without privileges."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

PASSWORD = "hum-hum-hum"
_USER = "llama"
_PATIENCE_S = 60.0


@dataclass
class Server:
    """A running server.

    Attributes:
        port: Where it listens.
        command: What starts it.
        user: The operating system's account that it runs under; None: the current one.
        folder: Where it runs.
    """

    port: int
    command: list[str]
    user: str | None
    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """An empty database's address."""
        name = f"t_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Starts it, also after `kill`, when its old processes may still be ending."""
        until = time.monotonic() + _PATIENCE_S
        while not self._has_started():
            if time.monotonic() > until:
                raise TimeoutError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """Kills it, and so its connections, without any goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is None:
            return
        if sys.platform == "win32":
            self._process.terminate()
        else:
            # It waits for no client that is still connected, and writes nothing: the folder is thrown away.
            self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _has_started(self) -> bool:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, user=self.user, cwd=self.folder)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False


def programs() -> Path | None:
    """The folder of the server's programs; Debian keeps them off the path. None: it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return folders[-1] if folders else None


@contextmanager
def running(bin_folder: Path) -> Iterator[Server]:
    """Makes a cluster, starts it, and throws it away."""
    # The server refuses to run as root.
    user = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="llama-client-postgres-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if user is not None:
            for path in (folder, password):
                shutil.chown(path, user, user)
        data = folder / "data"
        make = ["-D", str(data), "-U", _USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "-N"]
        subprocess.run([bin_folder / "initdb", *make], check=True, capture_output=True, user=user, cwd=folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
        command = [str(bin_folder / "postgres"), *serve, "-c", "max_connections=200"]
        server = Server(port, command, user, folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
