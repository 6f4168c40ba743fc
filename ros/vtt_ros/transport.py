"""The transport that the nodes use: UDP on the loopback address, from a profile that ships with the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from vtt.errors import StateError

__all__ = ["check_sockets", "environment", "exposed_addresses", "use_profile"]

_PROFILE = "udp_loopback.xml"
# Jazzy reads the older name only, later distributions the newer one.
_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_LOOPBACK = "0100007F"  # 127.0.0.1 as /proc/net writes it


def environment(*, domain: int | None = None) -> dict[str, str]:
    """Return the variables under which a node uses the profile.

    Args:
        domain: ROS_DOMAIN_ID, 0 to 232; None leaves it as it is.
    """
    profile = str(files("vtt_ros").joinpath(_PROFILE))
    # LOCALHOST, the other way to stay on this machine, makes rmw_fastrtps build transports of its own.
    values = {name: profile for name in _VARIABLES} | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}
    return values if domain is None else values | {"ROS_DOMAIN_ID": str(domain)}


def use_profile() -> None:
    """Set those variables in this process unless a profile was chosen already; call it before rclpy starts."""
    if not any(name in os.environ for name in _VARIABLES):
        os.environ.update(environment())


def exposed_addresses(*, tables: Mapping[str, str] | None = None, inodes: set[str] | None = None) -> list[str]:
    """List the UDP addresses beyond 127.0.0.1 that this process listens on, as /proc writes them.

    Args:
        tables: Contents of /proc/net/udp and udp6 by name; read by default.
        inodes: Sockets of the process; read by default.
    """
    own = _own_sockets() if inodes is None else inodes
    texts = tables or {name: Path(f"/proc/net/{name}").read_text() for name in ("udp", "udp6")}
    rows = [line.split() for text in texts.values() for line in text.splitlines()[1:]]
    return [row[1] for row in rows if row[9] in own and not row[1].startswith(_LOOPBACK + ":")]


def check_sockets() -> None:
    """Refuse to go on if the shipped profile was asked for and not obeyed.

    Raises:
        StateError: If a socket of this process can be reached from other machines.
    """
    chosen = os.environ.get(_VARIABLES[0], "")
    if Path(chosen).name != _PROFILE or chosen != environment()[_VARIABLES[0]]:
        return  # somebody's own profile
    exposed = exposed_addresses()
    if exposed:
        raise StateError(
            f"DDS must listen on 127.0.0.1 only, got {', '.join(exposed)}. The profile {chosen} was not read."
        )


def _own_sockets() -> set[str]:
    """Inodes of this process' sockets."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
