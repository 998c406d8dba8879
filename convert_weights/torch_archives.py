"""Read files of `torch.save`, any tree of tensors in either format; nothing in them is executed.

Since 1.6 a file is a zip archive: a pickle, and one uncompressed member a storage. Before, it was
five pickles and then all storages, one after another (the layout of spec eg3d 11.4). In that older
format each storage is also kept inside checkpoint pickles, as a byte string.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from convert_weights.array_pickle import ARRAY_GLOBALS, CheckpointError, loads, loads_all, printable
from convert_weights.file_kinds import ZIP_DAMAGE
from convert_weights.storages import (
    TENSOR_GLOBALS,
    ElementType,
    Storage,
    resolve_element_type,
    storage_header,
)

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_STEPS = 500  # the header of a storage takes about 70

Resolve = Callable[[str, str], Callable[..., object] | None]


def is_zip(data: memoryview) -> bool:
    """Whether bytes begin as a zip archive does."""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def read_archive(data: memoryview, *, others: Resolve | None = None) -> Any:
    """Read the tree of tensors in a file of `torch.save`, of either format.

    Args:
      data: the file.
      others: stands in for globals beside those of tensors and arrays; see `loads`.

    Raises:
      CheckpointError: if it is none, damaged, or names something else than tensors.
    """

    def resolve(module: str, name: str) -> Callable[..., object] | None:
        return _resolve(module, name) or (others and others(module, name))

    return read_zip(data, resolve) if is_zip(data) else _read_legacy(data, resolve)


def storage_from_bytes(data: memoryview) -> Storage:
    """Decode the argument of `torch.storage._load_from_bytes`.

    Raises:
      CheckpointError: if the bytes are not one complete file of one storage.
    """
    if not isinstance(data, memoryview):
        raise CheckpointError("it is damaged: a storage is no byte string")
    if is_zip(data):
        storage = read_zip(data, resolve_element_type, max_steps=_MAX_STEPS)
        if not isinstance(storage, Storage):
            raise CheckpointError("it is damaged: a byte string that holds no storage")
        return storage
    (element, key, num_elements), position = loads(
        data,
        _check_header(data),
        resolve=resolve_element_type,
        persistent=storage_header,
        max_steps=_MAX_STEPS,
    )
    keys, position = loads(data, position, resolve=resolve_element_type, max_steps=_MAX_STEPS)
    if keys != [key]:
        raise CheckpointError("it is damaged: a storage's list of keys is not its own")
    storage, end = _next_storage(data, position, element, num_elements)
    if end != len(data):
        raise CheckpointError("it is damaged: a storage is not as long as its header says")
    return storage


def _check_header(data: memoryview) -> int:
    """Read the three pickles that open a legacy torch file -> the position behind them."""
    position, values = 0, []
    for _ in range(3):
        value, position = loads(data, position, resolve=resolve_element_type, max_steps=_MAX_STEPS)
        values.append(value)
    magic, protocol, system = values
    little_endian = type(system) is dict and system.get("little_endian") is True
    if magic != MAGIC or protocol != _PROTOCOL or not little_endian:
        raise CheckpointError("it is, or holds, no little-endian legacy torch file")
    return position


def _next_storage(
    data: memoryview, place: int, element: ElementType, count: int
) -> tuple[Storage, int]:
    """Read the storage at a position -> it, and the position behind."""
    if count < 0 or int.from_bytes(data[place : place + 8], "little", signed=True) != count:
        raise CheckpointError("it is damaged: a storage is not as long as its header says")
    end = place + 8 + count * element.dtype.itemsize
    if end > len(data):
        raise CheckpointError(
            "it is damaged or truncated: a storage is not as long as its header says"
        )
    return Storage(element, data[place + 8 : end]), end


def _read_legacy(data: memoryview, resolve: Resolve) -> Any:
    """Read a legacy file: five pickles, then a count of elements and the elements of each key."""
    position = _check_header(data)
    # The storages come last, so a first reading finds their types, and a second one the tensors.
    headers: dict[str, tuple[ElementType, int]] = {}

    def note(identifier: Any) -> None:
        element, key, count = storage_header(identifier)
        headers.setdefault(key, (element, count))

    def skip_tensors(module: str, name: str) -> Callable[..., object] | None:
        return (lambda *_: None) if (module, name) in TENSOR_GLOBALS else resolve(module, name)

    _, after = loads(data, position, resolve=skip_tensors, persistent=note)
    keys, place = loads(data, after, resolve=lambda *_: None)
    # Not `str` of them, which for lists that share parts could be exponentially long.
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise CheckpointError("it is damaged: its list of storages is no list of names")
    if len(keys) != len(headers) or set(keys) != headers.keys():
        raise CheckpointError("it is damaged: its list of storages is not that of its tensors")
    storages: dict[str, Storage] = {}
    for key in keys:
        storages[key], place = _next_storage(data, place, *headers[key])
    if place != len(data):
        raise CheckpointError(f"it has {len(data) - place} bytes behind its last storage")
    tree, _ = loads(
        data, position, resolve=resolve, persistent=_look_up(lambda key, _: storages[key])
    )
    return tree


def read_zip(data: memoryview, resolve: Resolve, **limits: int) -> Any:
    """Read the tree in a zip archive of `torch.save`, with members NAME/data.pkl and NAME/data/KEY.

    Args:
      data: the archive.
      resolve: see `loads`.
      limits: see `loads`.

    Raises:
      CheckpointError: if it is damaged, compressed, or names what `resolve` refuses.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, len(data))

            def member(name: str) -> memoryview:
                if name not in members:
                    raise CheckpointError(f"it is damaged: its part {printable(name)} is missing")
                info = members[name]
                # Uncompressed, as torch writes them, no member can be larger than the file.
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise CheckpointError(
                        f"its part {printable(name)} is compressed, which torch.save never does"
                    )
                return memoryview(archive.read(info))

            if "byteorder" in members and bytes(member("byteorder")) != b"little":
                raise CheckpointError("its numbers are not little-endian")

            def storage(key: str, element: ElementType) -> Storage:
                return Storage(element, member(f"data/{key}"))

            return loads_all(
                member("data.pkl"), resolve=resolve, persistent=_look_up(storage), **limits
            )
    except CheckpointError:
        raise
    except ZIP_DAMAGE as error:
        if "Bad CRC-32" in str(error):
            raise CheckpointError(
                "a checksum in it is wrong: it is damaged, or was written without checksums; save "
                "it again with torch.serialization.set_crc32_options(True)"
            ) from None
        raise CheckpointError("it is a damaged, encrypted or truncated zip archive") from None


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Members below the archive's one folder, by their names there."""
    infos = archive.infolist()
    if sum(info.compress_size for info in infos) > size:
        raise CheckpointError("it is damaged: its parts overlap")
    members = {info.filename.partition("/")[2]: info for info in infos}
    if len(members) != len(infos):
        raise CheckpointError("it is malformed: two of its parts have one name")
    if "constants.pkl" in members:
        raise CheckpointError(
            "it is a TorchScript archive, a program; save the tensors alone with torch.save"
        )
    return members


def _look_up(find: Callable[[str, ElementType], Storage]) -> Callable[[object], Storage]:
    """Look up the storage of a persistent id; `find` is called once for each key."""
    found: dict[str, Storage] = {}

    def look_up(identifier: object) -> Storage:
        element, key, count = storage_header(identifier)
        if key not in found:
            found[key] = find(key, element)
        if len(found[key].raw) != count * element.dtype.itemsize:
            raise CheckpointError("it is damaged: a storage is not as long as its header says")
        return found[key].seen_as(element)

    return look_up


def _resolve(module: str, name: str) -> Callable[..., object] | None:
    return (
        TENSOR_GLOBALS.get((module, name))
        or resolve_element_type(module, name)
        or ARRAY_GLOBALS.get((module, name))
    )
