"""The worker's process, seen from the environment's: start, memory, messages, end."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from vtt.errors import DependencyError, StateError
from vtt_envs.isaacgym.worker.protocol import VERSION, Scene, Shared

__all__ = ["PYTHON_VARIABLE", "Worker"]

_log = logging.getLogger(__name__)

PYTHON_VARIABLE = "VTT_ISAACGYM_PYTHON"
_FOLDER = Path(__file__).parent / "worker"
_PATIENCE = 5.0  # s that the worker has to end by itself
_LAST_WORDS = 3000  # characters


class Worker:
    """A process that simulates a scene; see `vtt_envs.isaacgym.worker.protocol`.

    The shared memory has no name and the worker's life hangs on a pipe, so that nothing is left behind however either
    process ends.

    Args:
        scene: What it simulates.
        path: Its description. When this returns, the files are no longer needed.
        prepare: Writes the properties with which it is built into the shared memory.

    Attributes:
        shared: The arrays that both processes see.
        python: Version of the worker's Python.

    Raises:
        DependencyError: If there is no worker, it fails, or it speaks another version of the protocol.
    """

    def __init__(self, scene: Scene, path: Path, *, prepare: Callable[[Shared], None]) -> None:
        python = os.environ.get(PYTHON_VARIABLE)
        if not python:
            raise DependencyError(
                "backend='isaacgym' needs a Python 3.8 that has Isaac Gym Preview 4. "
                f"Set {PYTHON_VARIABLE} to its interpreter; docs/backends.md tells how to make one."
            )
        if not sys.platform.startswith("linux"):
            raise DependencyError(f"backend='isaacgym' needs Linux, got {sys.platform}. Use backend='mujoco'.")
        descriptor = os.memfd_create("vtt-isaacgym")
        try:
            os.ftruncate(descriptor, Shared.size(scene))
            self.shared = Shared(scene, mmap.mmap(descriptor, Shared.size(scene)))
            prepare(self.shared)
            self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            command = [python, str(_FOLDER), str(path), str(descriptor)]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._words,
                    pass_fds=[descriptor],
                    start_new_session=True,  # Ctrl-C is for the environment
                )
            except OSError as error:
                self._words.close()
                raise DependencyError(
                    f"{PYTHON_VARIABLE} must be a Python interpreter, got '{python}' ({error.strerror})."
                ) from error
        finally:
            os.close(descriptor)
        self._end = weakref.finalize(self, _end, self._process, self._words)
        hello = self._answer("while it started")
        if hello.get("hello") != VERSION:
            self.close()
            raise DependencyError(
                f"The Isaac Gym worker must speak version {VERSION} of the protocol, got {hello.get('hello')}. "
                f"Let {PYTHON_VARIABLE} run the worker of this installation of vtt."
            )
        self.python = str(hello.get("python"))
        _log.info("The Isaac Gym worker runs on Python %s.", self.python)
        self._answer("while it built the scene")

    def step(self, steps: int) -> None:
        """Advance the active simulations.

        Raises:
            DependencyError: If the worker fails or has failed.
            StateError: If the worker was ended.
        """
        if not self._end.alive:
            raise StateError("step needs an environment that is open, and whose worker has not failed. Make a new one.")
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # the answer says why
                self._process.stdin.write(json.dumps({"step": steps}).encode() + b"\n")
                self._process.stdin.flush()
            self._answer("during a step")
        except BaseException:  # an interrupt too: an answer that nobody read would be taken for the next
            self.close()
            raise

    def close(self) -> None:
        """End the worker; a second time does nothing."""
        self._end()

    def _answer(self, when: str) -> dict[str, Any]:
        """Wait for a message."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            message = json.loads(line)
        except ValueError:
            message = {"error": f"It said {line.decode(errors='replace')!r}." if line else ""}
        if "error" not in message:
            return message
        status = _finish(self._process)
        self._words.seek(0)
        words = self._words.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        self.close()
        raise DependencyError(
            f"The Isaac Gym worker failed {when} (exit status {status}). Its last words follow; then make the "
            f"environment anew.\n{words}\n{message['error']}".rstrip()
        )


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    """Let a worker end, or end it."""
    _finish(process)
    assert process.stdout is not None
    process.stdout.close()
    words.close()


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Tell a worker to end, or end it; return its exit status."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
