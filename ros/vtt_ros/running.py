"""Run one node in the main thread until somebody says stop, and let it speak once more before it goes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from vtt.errors import VttError
from vtt_ros import transport

if TYPE_CHECKING:
    from rclpy.node import Node

__all__ = ["RosNode", "run"]

_POLL = 0.05


class RosNode(Protocol):
    """What `run` runs."""

    node: Node

    def stop(self) -> None:
        """Say the last word, close what is open."""
        ...


def run(make: Callable[[], RosNode], argv: Sequence[str] | None = None) -> int:
    """Make a node and spin it on a single-threaded executor.

    rclpy's own signal handling ends the context before anybody can send a last command, so that SIGINT and SIGTERM only
    set a flag here.

    Args:
        make: Builds the node; called after ROS has started.
        argv: ROS arguments, those of the process by default.

    Returns:
        Exit status: 0 after a signal, 2 if the node refused to start.
    """
    transport.use_profile()
    import rclpy
    import rclpy.utilities
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    stopping = False

    def ask(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    rclpy.init(args=None if argv is None else ["vtt_ros", *argv], signal_handler_options=SignalHandlerOptions.NO)
    ros: RosNode | None = None
    try:
        ros = make()
        transport.check_sockets()
        executor = SingleThreadedExecutor()
        executor.add_node(ros.node)
        while not stopping:
            executor.spin_once(timeout_sec=_POLL)
        return 0
    except VttError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    finally:
        if ros is not None:
            ros.stop()
            ros.node.destroy_node()
        rclpy.utilities.try_shutdown()
