"""The mail server of the embedded stack: whatever is sent lies in a folder, nothing leaves the machine."""

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Meta, Struct

from deploy.data_directory import write_whole

PORT_FILE: Final = ".port"
_MOST_MESSAGES: Final = 500
_MOST_BYTES: Final = 256 * 1024 * 1024
_MESSAGE_BYTES: Final = 10 * 1024 * 1024
_NAME: Final = re.compile(r"([0-9]{8})\.eml")


class SinkSettings(
    Struct, frozen=True, kw_only=True, rename=lambda name: f"AUTOMATEOS_MAIL_SINK_{name.upper()}"
):
    """What the supervisor tells the mail server."""

    folder: str
    port: Annotated[int, Meta(ge=0, le=65535)]


class Mailbox:
    """The folder with the last messages, numbered in the order in which they came."""

    def __init__(self, folder: Path, *, messages: int = _MOST_MESSAGES, size: int = _MOST_BYTES) -> None:
        self._folder = folder
        self._messages = messages
        self._size = size
        self._last = max((int(name.stem) for name in self._stored()), default=0)

    def keep(self, message: bytes) -> Path:
        """Store a message and let the oldest ones go that are too many."""
        self._last += 1
        path = self._folder / f"{self._last:08}.eml"
        write_whole(path, message)
        self._drop_oldest()
        return path

    def _drop_oldest(self) -> None:
        stored = self._stored()
        sizes = [path.stat().st_size for path in stored]
        while len(stored) > self._messages or sum(sizes) > self._size:
            stored.pop(0).unlink(missing_ok=True)
            sizes.pop(0)

    def _stored(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))


class Handler:
    """What aiosmtpd calls for each message."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # Its name.
        content = envelope.original_content or b""
        to = ", ".join(envelope.rcpt_tos)
        head = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {to}\r\n"
        path = self._mailbox.keep(head.encode(errors="replace") + content)
        return f"250 OK: kept as {path.name}"


async def serve(settings: SinkSettings) -> None:
    """Receive mail until SIGTERM."""
    loop = asyncio.get_running_loop()
    folder = Path(settings.folder)
    handler = Handler(Mailbox(folder))
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=_MESSAGE_BYTES, enable_SMTPUTF8=True, hostname="automateos"),
        "127.0.0.1",
        settings.port,
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        write_whole(folder / PORT_FILE, str(port).encode())
        await stop.wait()


def main(environ: Mapping[str, str]) -> None:
    asyncio.run(serve(msgspec.convert(dict(environ), SinkSettings, strict=False)))


if __name__ == "__main__":
    main(os.environ)  # noqa: TID251  # The composition root of this process.
