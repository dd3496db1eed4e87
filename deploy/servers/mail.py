"""The mail server as a child of the supervisor (the server itself: deploy/mail_sink.py)."""

import sys
from collections.abc import Mapping

from deploy.data_directory import DataDirectory
from deploy.process import Command, until
from deploy.readiness import first_line
from deploy.supervisor import Child


class Mail:
    """A mail server on 127.0.0.1 that keeps what it gets as files in the data directory."""

    def __init__(self, data: DataDirectory, *, port: int, env: Mapping[str, str]) -> None:
        self._folder = data.mail
        self._port_file = self._folder / ".port"
        self._log = data.logs / "mail.log"
        self._env = env
        self.port = port
        """0 until the server has chosen one, if it may choose."""

    def child(self) -> Child:
        return Child(
            name="mail",
            command=Command(
                argv=(sys.executable, "-P", "-m", "deploy.mail_sink"),
                env={
                    **self._env,
                    "AUTOMATEOS_MAIL_SINK_FOLDER": str(self._folder),
                    "AUTOMATEOS_MAIL_SINK_PORT": str(self.port),
                },
                log=self._log,
            ),
            before=self._before,
            ready=self._ready,
        )

    async def _before(self) -> None:
        self._port_file.unlink(missing_ok=True)

    async def _ready(self, _pid: int) -> None:
        await until(self._port_file.exists)
        self.port = int(self._port_file.read_text())
        await first_line("127.0.0.1", self.port)
