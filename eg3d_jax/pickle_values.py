"""What a pickle from a stranger may be made of, and the one error that reading it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_SCALAR_TYPES = (str, int, float, type(None))  # what may be a key; tuples can hash exponentially


class CheckpointError(ValueError):
    """A file that cannot be used; the message is one sentence that says why."""


def printable(text: str, limit: int = 120) -> str:
    """Shorten and escape a string out of a file, so that a message stays one harmless line."""
    escaped = ascii(text)[1:-1]
    return escaped if len(escaped) <= limit else escaped[:limit] + "..."


class Stub:
    """Stands for an object of the file; only stubs take a state."""

    def build(self, state: object) -> None:
        """Receive the object's state."""
        raise CheckpointError("it is malformed: it sets the state of a value that has none")


@dataclass(frozen=True)
class Global:
    """What a pickle's reference to a class or function turns into."""

    call: Callable[..., object]


def scalar_key(key: Any) -> Any:
    """Return the key of a dict or set if it is a scalar; a TypeError otherwise."""
    if not isinstance(key, _SCALAR_TYPES):
        raise TypeError("a key is no scalar")
    return key


def update(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    """Update a dict with pairs whose keys must be scalars."""
    for key, value in pairs:
        target[scalar_key(key)] = value
