"""A node's parameters, declared from a frozen dataclass: name, type, default, range and text are written once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from vtt.errors import ConfigError

if TYPE_CHECKING:
    from rclpy.node import Node

__all__ = ["Bounds", "between", "checksum", "declare", "described"]

_Config = TypeVar("_Config")


class Bounds(NamedTuple):
    """What a parameter's metadata say: text for people, and its range if it is a number."""

    text: str
    low: float | None = None
    high: float | None = None


def described(default: Any, text: str) -> Any:
    """Make a dataclass field that is a parameter without a range."""
    return field(default=default, metadata={"bounds": Bounds(text)})


def between(default: Any, low: float, high: float, text: str) -> Any:
    """Make a dataclass field that is a number in [low, high]."""
    return field(default=default, metadata={"bounds": Bounds(text, low, high)})


def declare(node: Node, config_class: type[_Config], *, overrides: Mapping[str, Any] | None = None) -> _Config:
    """Declare every field of a config as a read-only parameter, and read them.

    Args:
        node: The node. What a YAML file or the command line says of it comes before the defaults.
        config_class: A frozen dataclass whose fields are made by `described` and `between`.
        overrides: Defaults to use instead of those of the class.

    Returns:
        The config.

    Raises:
        ConfigError: If a value has another type, lies outside its range, or fits none of the parameters.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
    from rclpy.parameter import Parameter

    hints = get_type_hints(config_class)
    values: dict[str, Any] = {}
    for item in fields(config_class):  # type: ignore[arg-type]
        bounds: Bounds = item.metadata["bounds"]
        kind, read = _KINDS[str(hints[item.name])]
        descriptor = ParameterDescriptor(description=bounds.text, read_only=True, type=kind)
        if bounds.low is not None and bounds.high is not None:
            if hints[item.name] is int:
                span = IntegerRange(from_value=int(bounds.low), to_value=int(bounds.high), step=0)
                descriptor.integer_range = [span]
            else:
                span = FloatingPointRange(from_value=float(bounds.low), to_value=float(bounds.high), step=0.0)
                descriptor.floating_point_range = [span]
        default = (overrides or {}).get(item.name, item.default)
        # An empty list tells no type: declared without a value, it stays unset.
        plain = Parameter.Type(kind) if default == () else list(default) if isinstance(default, tuple) else default
        try:
            values[item.name] = read(node.declare_parameter(item.name, plain, descriptor).value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            limits = "" if bounds.low is None else f" in [{bounds.low}, {bounds.high}]"
            wanted = f"{_word(hints[item.name])}{limits}"
            raise ConfigError(f"{item.name} must be {wanted} ({bounds.text}): {error}") from error
    _refuse_unknown(node, set(values))
    return config_class(**values)


def checksum(config: Any) -> str:
    """Name a config by its content, so that a log tells which limits were in force. Eight hexadecimal digits.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Limits:
        ...     speed: float = 0.1
        >>> checksum(Limits()) == checksum(Limits(0.1)), checksum(Limits()) == checksum(Limits(0.2))
        (True, False)
    """
    content = {item.name: getattr(config, item.name) for item in fields(config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _refuse_unknown(node: Node, known: set[str]) -> None:
    """Refuse a parameter that nobody reads: a misspelt limit would silently keep its default."""
    own = {"use_sim_time", "start_type_description_service"}
    given = set(node._parameter_overrides) - known - own
    unknown = sorted(name for name in given if not name.startswith("qos_overrides"))
    if unknown:
        raise ConfigError(f"No parameter '{unknown[0]}' of {node.get_name()}. Available: {', '.join(sorted(known))}.")


def _word(hint: Any) -> str:
    return {float: "a float (write 1.0, not 1)", int: "an integer", str: "a text", bool: "true or false"}.get(
        hint, "a list"
    )


# rcl_interfaces/msg/ParameterType
_KINDS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    str(bool): (1, bool),
    str(int): (2, int),
    str(float): (3, float),
    str(str): (4, str),
    str(tuple[float, ...]): (8, lambda value: tuple(float(v) for v in value or ())),
    str(tuple[str, ...]): (9, lambda value: tuple(str(v) for v in value or ())),
}
