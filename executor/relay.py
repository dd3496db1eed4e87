"""The way to the mail server that this instance's admin named; no workflow can choose another."""

from ipaddress import ip_network
from typing import Final, Self

from chassis.egress import AllowedTarget, Credential, Egress, Opened
from chassis.settings import Settings

_EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class Relay:
    """The configured mail server. It may stand at a private address, for mail alone."""

    def __init__(self, host: str, port: int, sender: str) -> None:
        self.host = host
        self.port = port
        self.sender = sender
        self._egress: Egress | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.smtp_host, settings.smtp_port, settings.smtp_from)

    async def connect(self, timeout_s: float, credential: Credential | None = None) -> Opened:
        """An open connection. Raises `EgressError`; nothing has been said on it."""
        if self._egress is None:
            ports = range(self.port, self.port + 1)
            # A guard of its own: what is allowed here opens nothing for HTTP.
            self._egress = Egress([AllowedTarget(network, ports) for network in _EVERYWHERE])
        return await self._egress.open_tcp(
            self.host, self.port, timeout_s=timeout_s, usual=(), credential=credential
        )

    def close(self) -> None:
        if self._egress is not None:
            self._egress.close()
