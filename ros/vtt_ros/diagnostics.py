"""A node's diagnostics, once a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus
    from rclpy.node import Node

__all__ = ["ERROR", "OK", "STALE", "WARN", "Report", "publish_diagnostics", "status_message"]

# diagnostic_msgs/msg/DiagnosticStatus; a byte field is bytes in Python.
OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"


class Report(NamedTuple):
    """What a node says of itself.

    Attributes:
        level: One of OK, WARN, ERROR, STALE.
        message: One sentence.
        values: Details by name.
    """

    level: bytes
    message: str
    values: Mapping[str, object]


def status_message(name: str, report: Report, *, hardware_id: str = "") -> DiagnosticStatus:
    """Turn a report into its message."""
    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    values = [KeyValue(key=key, value=str(value)) for key, value in report.values.items()]
    return DiagnosticStatus(
        level=report.level, name=name, message=report.message, hardware_id=hardware_id, values=values
    )


def publish_diagnostics(node: Node, report: Callable[[], Report], *, hardware_id: str = "") -> None:
    """Publish a node's report on /diagnostics at 1 Hz of the steady clock."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.clock import Clock
    from rclpy.clock_type import ClockType

    publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish() -> None:
        message = DiagnosticArray()
        message.header.stamp = node.get_clock().now().to_msg()
        message.status = [status_message(node.get_fully_qualified_name(), report(), hardware_id=hardware_id)]
        publisher.publish(message)

    node.create_timer(1.0, publish, clock=Clock(clock_type=ClockType.STEADY_TIME))
