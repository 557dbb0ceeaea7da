# SPDX-License-Identifier: Apache-2.0
"""A port for a server of one's own."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """Free when asked; another process may take it before it is bound."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
