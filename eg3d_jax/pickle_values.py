"""What a pickle from a stranger may be made of, and the one error that reading it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eg3d_jax.errors import InputError

# What may be a key: text, whose hashes a file cannot foresee, and small numbers. Large ones and
# fractions can be chosen to collide, which takes quadratic time; tuples can hash exponentially.
_KEY_TYPES = (str, int, type(None))
_MAX_KEY = 1 << 16


class CheckpointError(InputError):
    """A file that cannot be used; the message is one sentence that says why."""


def printable(text: str, limit: int = 120) -> str:
    """Shorten and escape a string out of a file, so that a message stays one harmless line."""
    escaped = ascii(text[: limit + 1])[1:-1]
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


def refused_global(dotted: str) -> CheckpointError:
    """The error for a global that is not on the list of its reader."""
    return CheckpointError(
        f"it names the global {printable(dotted)}, which is not on the list of what such a file "
        "may hold (nothing of it was executed)"
    )


def scalar_key(key: Any) -> Any:
    """Return the key of a dict or set.

    Raises:
      CheckpointError: if it is neither text, nor None, nor a whole number of at most 65536.
    """
    if not isinstance(key, _KEY_TYPES) or (isinstance(key, int) and abs(key) > _MAX_KEY):
        found = f"the number {key:g}" if isinstance(key, int | float) else f"a {type(key).__name__}"
        raise CheckpointError(
            f"it has a key that is {found}; only text and whole numbers up to {_MAX_KEY} may be"
        )
    return key


def update(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    """Update a dict with pairs whose keys pass `scalar_key`."""
    for key, value in pairs:
        target[scalar_key(key)] = value
