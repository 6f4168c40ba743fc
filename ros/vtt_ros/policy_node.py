"""A policy's bundle as a node: newest observations in, commands for the gate out."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from numpy.typing import NDArray

from vtt.errors import ConfigError, VttError
from vtt_policies.deploy import load
from vtt_ros.diagnostics import ERROR, OK, STALE, WARN, Report, publish_diagnostics
from vtt_ros.messages import JUDGED, LATCHED, SENSOR, stamp_ns, time_message, twist_message
from vtt_ros.observations import message_kind, read_observation, topic_of
from vtt_ros.parameters import between, declare, described
from vtt_ros.running import run

__all__ = ["PolicyConfig", "PolicyNode", "main"]


@dataclass(frozen=True)
class PolicyConfig:
    """Which bundle, and what its actions mean on this robot."""

    bundle: str = described("", "Folder written by vtt export.")
    backend: str = described("torch", "What computes it: torch or onnx.")
    threads: int = between(1, 1, 64, "Threads of the backend.")
    rate: float = between(20.0, 1.0, 200.0, "Control rate that the policy was trained at, Hz.")
    translation_step: float = between(0.005, 0.0, 0.1, "Translation at action 1, m per control step.")
    rotation_step: float = between(0.08, 0.0, 1.0, "Rotation at action 1, rad per control step.")
    max_skew: float = between(0.05, 0.001, 1.0, "Largest difference between the stamps of what is seen at once, s.")
    tool_frame: str = described("tool0", "Frame of the commanded twist.")


class PolicyNode:
    """Acts once per set of new observations, at most at its control rate, on a thread of its own.

    The executor's thread only keeps the newest message of each stream, so that inference delays none of them. A session
    of the gate is an episode: memory begins anew with each.
    """

    def __init__(self) -> None:
        self.node = rclpy.create_node("policy")
        self.config = config = declare(self.node, PolicyConfig)
        if not config.bundle:
            raise ConfigError("bundle must name a folder written by vtt export.")
        if config.backend not in ("torch", "onnx"):
            raise ConfigError(f"backend must be torch or onnx, got {config.backend}.")
        self.policy = load(Path(config.bundle), backend=config.backend, threads=config.threads)  # type: ignore[arg-type]
        contract = self.policy.contract
        if contract.action_dim != 6:
            raise ConfigError(f"The bundle must command a twist of 6 numbers, got {contract.action_dim}.")
        self._scale = np.repeat([config.translation_step, config.rotation_step], 3) * config.rate
        self._name = f"{self.node.get_name()}-{time.monotonic_ns():x}"
        self._session = ""
        self._newest: dict[str, tuple[int, NDArray]] = {}
        self._used: dict[str, int] = {}
        self._fault = ""
        self._latency: deque[float] = deque(maxlen=400)
        self._acted = 0
        self._fresh = threading.Condition()
        self._stopping = False
        self._publisher = self.node.create_publisher(TwistStamped, "policy/twist_command", JUDGED)
        for key, spec in contract.observation.items():
            topic, kind = topic_of(key, spec), message_kind(spec)
            self.node.create_subscription(kind, topic, partial(self._take, key), SENSOR)
        self.node.create_subscription(DiagnosticStatus, "safety/state", self._hear_gate, LATCHED)
        publish_diagnostics(self.node, self._report)
        self._worker = threading.Thread(target=self._work, name="policy", daemon=True)
        self._worker.start()

    def stop(self) -> None:
        """End the policy's thread."""
        with self._fresh:
            self._stopping = True
            self._fresh.notify()
        self._worker.join(2.0)

    def _take(self, key: str, message: Any) -> None:
        """Keep the newest sample of a stream; one that cannot be used stops the policy and is named."""
        try:
            value = read_observation(key, message, self.policy.contract.observation[key])
        except VttError as error:
            self._fault = str(error)
            return
        with self._fresh:
            self._newest[key] = (stamp_ns(message.header.stamp), value)
            self._fresh.notify()

    def _hear_gate(self, message: DiagnosticStatus) -> None:
        session = next((pair.value for pair in message.values if pair.key == "session"), "")
        with self._fresh:
            self._session = session
            self._fresh.notify()

    def _work(self) -> None:
        session = ""
        due = time.monotonic()
        while True:
            with self._fresh:
                self._fresh.wait_for(lambda: self._stopping or (self._session and self._complete()), timeout=0.2)
                if self._stopping:
                    return
                if not self._session or self._fault or not self._complete():
                    continue
                begins, session = self._session != session, self._session
                stamps = {key: stamp for key, (stamp, _) in self._newest.items()}
                observation = {key: value for key, (_, value) in self._newest.items()}
                self._used = stamps
            time.sleep(max(0.0, due - time.monotonic()))
            # A little early rather than a step late: the observations themselves come at this rate.
            due = time.monotonic() + 0.8 / self.config.rate
            try:
                self._act(observation, min(stamps.values()), session, begins=begins)
            except VttError as error:
                self._fault = str(error)

    def _complete(self) -> bool:
        """Tell whether every stream has a sample not acted on yet, all of one time."""
        keys = self.policy.contract.observation
        if not all(key in self._newest and self._newest[key][0] != self._used.get(key) for key in keys):
            return False
        stamps = [self._newest[key][0] for key in keys]
        return max(stamps) - min(stamps) <= self.config.max_skew * 1e9

    def _act(self, observation: dict[str, NDArray], stamp: int, session: str, *, begins: bool) -> None:
        if begins:
            self.policy.reset()
        action = self.policy.act(observation)
        twist = action.astype(np.float64) * self._scale
        frame = f"{self.config.tool_frame}:{session}:{self._name}"
        self._publisher.publish(twist_message(twist.tolist(), stamp=time_message(stamp), frame=frame))
        self._latency.append((self.node.get_clock().now().nanoseconds - stamp) / 1e9)
        self._acted += 1

    def _report(self) -> Report:
        contract = self.policy.contract
        values: dict[str, object] = {"kind": contract.kind, "acted": self._acted, "session": self._session}
        if self._latency:
            median, p99 = np.percentile(list(self._latency), [50, 99])
            values |= {"latency_p50_ms": f"{median * 1e3:.1f}", "latency_p99_ms": f"{p99 * 1e3:.1f}"}
        missing = [topic_of(k, s) for k, s in contract.observation.items() if k not in self._newest]
        if self._fault:
            return Report(ERROR, self._fault, values)
        if missing:
            return Report(STALE, f"nothing on {', '.join(missing)}", values)
        if self.policy.verdict is not None and self.policy.verdict.refused:
            return Report(WARN, "the network's action is not finite: zero is sent", values)
        return Report(OK, "acting" if self._session else "waiting for the gate", values)


def main() -> int:
    """Run a policy."""
    return run(PolicyNode)


if __name__ == "__main__":
    raise SystemExit(main())
