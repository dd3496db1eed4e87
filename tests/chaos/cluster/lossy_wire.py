"""A wire that loses frames: `python -m tests.chaos.cluster.lossy_wire ONE OTHER SHARE SEED` joins two network cards until it is killed.

A frame is copied with what its card says of it beside (checksums and sizes that the kernel has not computed yet), so that
what arrives is what was sent.
"""

import random
import selectors
import socket
import sys
from typing import Final

_EVERY_PROTOCOL: Final = 0x0003
_PACKET_LEVEL: Final = 263
_WITH_CARD_HEADER: Final = 15
"""`SOL_PACKET` and `PACKET_VNET_HDR` of linux/if_packet.h."""
_SENT_BY_US: Final = 4
_LARGEST: Final = 1 << 17
_AT_ONCE: Final = 64


def main(arguments: list[str]) -> None:
    one, other, share, seed = arguments
    chance = random.Random(seed)
    ends = _end(one), _end(other)
    opposite = dict(zip(ends, reversed(ends), strict=True))
    sys.stdout.write("joined\n")
    sys.stdout.flush()
    with selectors.DefaultSelector() as selector:
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                end = key.fileobj
                assert isinstance(end, socket.socket)
                _carry(end, opposite[end], chance, float(share))


def _end(card: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    end.setsockopt(_PACKET_LEVEL, _WITH_CARD_HEADER, 1)
    end.bind((card, 0))
    end.setblocking(False)
    return end


def _carry(source: socket.socket, target: socket.socket, chance: random.Random, share: float) -> None:
    for _ in range(_AT_ONCE):
        try:
            frame, address = source.recvfrom(_LARGEST)
        except BlockingIOError:
            return
        if address[2] == _SENT_BY_US or chance.random() < share:
            continue
        try:
            target.send(frame)
        except BlockingIOError:
            continue  # The card is busy: one more frame that is lost.


if __name__ == "__main__":
    main(sys.argv[1:])
