# SPDX-License-Identifier: Apache-2.0
"""A port for a server of one's own."""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

LOWEST = 10_000
# Outgoing connections get theirs from here: such a port may be gone before a server has bound it,
# and again whenever that server is started anew.
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _below_outgoing() -> Iterator[int]:
    """All ports that only who names them gets, over and over; another process begins elsewhere."""
    end = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 32_768
    ports = range(LOWEST, max(end, LOWEST + 1_000))
    begin = os.getpid() * 97 % len(ports)
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_ports = _below_outgoing()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a connection to it is taken."""
    with contextlib.suppress(OSError), socket.create_connection((host, port)):
        return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """Free when asked, and never given twice; nobody takes it by chance before it is bound."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers bind theirs
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
