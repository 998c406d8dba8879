"""Interpreter of pickles from untrusted files, and `CheckpointError`, which it raises."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eg3d_jax.errors import InputError

# Types of keys: text, whose hashes a file cannot predict, and small numbers. Large ones and
# fractions can be chosen to collide, which takes quadratic time; tuples can take exponential time.
_KEY_TYPES = (str, int, type(None))
_MAX_KEY = 1 << 16


class CheckpointError(InputError):
    """A file that cannot be used; the message is one sentence that says why."""


def printable(text: str, limit: int = 120) -> str:
    """Shorten and escape a string out of a file, so that a message stays one harmless line."""
    escaped = ascii(text[: limit + 1])[1:-1]
    return escaped if len(escaped) <= limit else escaped[:limit] + "..."


class Stub:
    """Stand-in for an object of the file; only stubs take a state."""

    def build(self, state: object) -> None:
        """Receive the object's state."""
        raise CheckpointError("it is malformed: it sets the state of a value that has none")


@dataclass(frozen=True)
class Global:
    """Result of a pickle's reference to a class or function."""

    call: Callable[..., object]


def refused_global(dotted: str) -> CheckpointError:
    """Make the error for a global that is not on the list of its reader."""
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


MAX_STEPS = 2_000_000  # a full training snapshot takes about 150 000
_PROTOCOL = 5  # the newest
_READINGS = 4  # of the whole file; an honest one reads each storage once
_MAX_NAME = 512  # characters of a global's name
_SIZED = (str, list, tuple, dict, set, frozenset, memoryview)
_DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)

Resolve = Callable[[str, str], Callable[..., object] | None]


class _Machine:
    """Interpreter of the opcodes of one pickle over a memory view."""

    def __init__(self, data, position, resolve, persistent, max_steps):
        self.data, self.position, self.max_steps = data, position, max_steps
        self.resolve, self.persistent = resolve, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.elements_read = 0

    def run(self) -> object:
        for _ in range(self.max_steps):
            start = self.position
            opcode = self.byte()
            if opcode == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks:
                    raise CheckpointError("it is malformed: it leaves values behind")
                return self.stack[0]
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise CheckpointError(
                    f"it is not a pickle, or damaged: byte {start} is {opcode:#04x}, "
                    "no operation of a data pickle"
                )
            operation(self)
        raise CheckpointError(f"it takes more than {self.max_steps} steps to read")

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise CheckpointError(
                f"it is truncated: it ends at byte {len(self.data)} in mid-value; copy or download "
                "it again"
            )
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def integer(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def byte(self) -> int:
        if self.position >= len(self.data):
            self.take(1)  # says that the file is truncated
        self.position += 1
        return self.data[self.position - 1]

    def line(self) -> str:
        line = bytes(self.data[self.position : self.position + _MAX_NAME]).split(b"\n", 1)
        if len(line) == 1:
            raise CheckpointError("it is truncated or damaged inside the name of a global")
        self.position += len(line[0]) + 1
        return line[0].decode()

    def pay(self, *values: object) -> None:
        """Count elements and bytes that a function may read or copy, a few for each of the file."""
        self.elements_read += sum(len(value) for value in values if isinstance(value, _SIZED))
        if self.elements_read > _READINGS * len(self.data):
            raise CheckpointError("it is malformed: it has the same values read again and again")

    def protocol(self) -> None:
        if (version := self.byte()) > _PROTOCOL:
            raise CheckpointError(f"it is no pickle, or one of the unknown protocol {version}")

    def frame(self) -> None:
        if self.integer(8) > len(self.data) - self.position:
            self.take(len(self.data))  # says that the file is truncated

    def put(self, index: int) -> None:
        if index == len(self.memo):  # without gaps, as a file's choice could collide in a dict
            self.memo.append(None)
        self.memo[index] = self.stack[-1]

    def items(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        self.stack.pop() if self.stack else self.items()

    def long(self, width: int) -> None:
        count = self.integer(width)
        if count > 64:
            raise CheckpointError(f"it is damaged: an integer of {count} bytes")
        self.stack.append(self.integer(count, signed=True))

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"expected a {kind.__name__}")
        return self.stack[-1]

    def text(self, count: int) -> None:
        self.stack.append(str(self.take(count), "utf-8", "surrogatepass"))

    def pack(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def update(self, items: list[Any]) -> None:
        update(self.top(dict), zip(items[::2], items[1::2], strict=True))

    def call(self, count: int) -> None:
        function, arguments, *keywords = self.stack[-count:]
        del self.stack[-count:]
        if not isinstance(function, Global) or type(arguments) is not tuple or any(keywords):
            raise CheckpointError("it is malformed: it calls a value that is no function")
        self.pay(arguments)
        self.pay(*arguments)
        self.stack.append(function.call(*arguments))

    def find(self, module: Any, name: Any) -> None:
        if not type(module) is type(name) is str or len(module) + len(name) > _MAX_NAME:
            raise TypeError("a global's name is no string, or too long")
        function = self.resolve(module, name)
        if function is None:
            raise refused_global(f"{module}.{name}")
        self.stack.append(Global(function))

    def persist(self) -> None:
        if self.persistent is None:
            raise CheckpointError("it refers to an object outside the file")
        self.pay(self.stack[-1])
        self.stack.append(self.persistent(self.stack.pop()))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        self.pay(state)
        if isinstance(target, Stub):
            target.build(state)
        elif type(target) is not dict:  # attributes of a dict subclass carry nothing for us
            raise TypeError("cannot take a state")


_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    ord(opcode): operation
    for opcode, operation in {
        "\x80": _Machine.protocol,
        "\x95": _Machine.frame,
        "(": _Machine.mark,
        "0": _Machine.pop,
        "1": _Machine.items,
        "2": lambda m: m.push(m.stack[-1]),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "J": lambda m: m.push(m.integer(4, signed=True)),
        "K": lambda m: m.push(m.byte()),
        "M": lambda m: m.push(m.integer(2)),
        "\x8a": lambda m: m.long(1),
        "\x8b": lambda m: m.long(4),
        "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        "X": lambda m: m.text(m.integer(4)),
        "\x8c": lambda m: m.text(m.byte()),
        "\x8d": lambda m: m.text(m.integer(8)),
        "B": lambda m: m.push(m.take(m.integer(4))),
        "C": lambda m: m.push(m.take(m.byte())),
        "\x8e": lambda m: m.push(m.take(m.integer(8))),
        "\x96": lambda m: m.push(m.take(m.integer(8))),
        "]": lambda m: m.push([]),
        "a": lambda m: m.extend([m.stack.pop()]),
        "e": lambda m: m.extend(m.items()),
        ")": lambda m: m.push(()),
        "t": lambda m: m.push(tuple(m.items())),
        "\x85": lambda m: m.pack(1),
        "\x86": lambda m: m.pack(2),
        "\x87": lambda m: m.pack(3),
        "}": lambda m: m.push({}),
        "s": lambda m: m.update([m.stack.pop(-2), m.stack.pop()]),
        "u": lambda m: m.update(m.items()),
        "\x8f": lambda m: m.push(set()),
        "\x90": lambda m: (lambda items: m.top(set).update(map(scalar_key, items)))(m.items()),
        "\x91": lambda m: m.push(frozenset(map(scalar_key, m.items()))),
        "h": lambda m: m.push(m.memo[m.byte()]),
        "j": lambda m: m.push(m.memo[m.integer(4)]),
        "q": lambda m: m.put(m.byte()),
        "r": lambda m: m.put(m.integer(4)),
        "\x94": lambda m: m.put(len(m.memo)),
        "c": lambda m: m.find(m.line(), m.line()),
        "\x93": lambda m: m.find(m.stack.pop(-2), m.stack.pop()),
        "R": lambda m: m.call(2),
        "\x81": lambda m: m.call(2),
        "\x92": lambda m: m.call(3),
        "b": _Machine.build,
        "Q": _Machine.persist,
    }.items()
}


def loads(
    data: bytes | memoryview,
    position: int = 0,
    *,
    resolve: Resolve,
    persistent: Callable[[object], object] | None = None,
    max_steps: int = MAX_STEPS,
) -> tuple[Any, int]:
    """Decode the pickle that starts at a position.

    Args:
      data: the file; byte strings in it come out as memory views of it, nothing is copied.
      position: where the pickle starts.
      resolve: from (module, name) to the function standing in for that global; None refuses it.
      persistent: from a persistent id to its object; None refuses them.
      max_steps: operations after which the file is refused.

    Returns:
      The object, and the position behind the pickle.

    Raises:
      CheckpointError: if the data are no pickle, damaged, or name a global that is refused.
    """
    machine = _Machine(memoryview(data), position, resolve, persistent, max_steps)
    try:
        return machine.run(), machine.position
    except CheckpointError:
        raise
    except MemoryError:  # what is taken is bounded by the file's size, which is sound then
        raise CheckpointError("there is not enough memory to read it") from None
    except _DAMAGE as error:
        kind = type(error).__name__
        raise CheckpointError(
            f"it is not a pickle, or damaged around byte {machine.position} ({kind})"
        ) from None


def loads_all(
    data: bytes | memoryview,
    *,
    resolve: Resolve,
    persistent: Callable[[object], object] | None = None,
    max_steps: int = MAX_STEPS,
) -> Any:
    """Decode a pickle that takes up all of the data; see `loads`.

    Raises:
      CheckpointError: as `loads`, and if anything follows the pickle.
    """
    value, end = loads(data, resolve=resolve, persistent=persistent, max_steps=max_steps)
    if end != len(data):
        raise CheckpointError(
            f"it has {len(data) - end} bytes behind its pickle, which belong to no checkpoint; "
            "copy or download it again"
        )
    return value
