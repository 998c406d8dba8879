"""Recognize files that are no pickle: failed downloads, and formats of other programs."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass

from convert_weights.pickle_machine import CheckpointError, printable

TORCH_ARCHIVE = "an archive of torch.save"
SAFETENSORS = "a safetensors file"
# Errors of `zipfile` for damaged or unknown archives.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
)
_AGAIN = "download it again"
_UNPACK = "unpack it and give the file in it"
_SHOWN = 80  # characters of a text
_LOOKED_AT = 4096  # bytes of a text
_LARGEST_HEADER = 100 << 20  # of safetensors

# Position, bytes there, name, advice; without advice the reader of the file says what it wants.
_SIGNATURES: tuple[tuple[int, bytes, str, str | None], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (0, b"version https://hawser", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself", "run git annex get"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", None),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", None),
    (0, b"GGUF", "a GGUF model", None),
    (4, b"TFL3", "a TensorFlow Lite model", None),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "an LZ4 archive", _UNPACK),
    (0, b"\x1f\x8b", "compressed by gzip twice", "unpack it once with gunzip"),
    (0, b"\x89PNG\r\n\x1a\n", "a picture (PNG)", None),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", None),
    (0, b"GIF8", "a picture (GIF)", None),
    (8, b"WEBP", "a picture (WebP)", None),
    (4, b"ftyp", "a video (MP4)", None),
    (0, b"%PDF", "a PDF document", None),
    (0, b"\x7fELF", "a program", None),
    (0, b"SQLite format 3", "an SQLite database", None),
)
# A pickle of one number, by whatever protocol.
_TORCH_MAGIC = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)
_OLDEST_TORCH = ("sys_info", "pickle", "storages", "tensors")  # members of its tar archives


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      name: what it is, to stand behind "it is"
      way_on: what its user can do; None leaves that to the reader, who knows what is wanted
    """

    name: str
    way_on: str | None = None


def recognize(data: memoryview) -> Kind | None:
    """Recognize a file by its first bytes; None if it may be a pickle of protocol 2 to 5."""
    for position, signature, name, way_on in _SIGNATURES:
        if data[position : position + len(signature)] == signature:
            return Kind(name, way_on)
    head = bytes(data[:_LOOKED_AT])
    if head[:1] == b"\x80":
        return Kind(f"{TORCH_ARCHIVE} (old format)") if _TORCH_MAGIC.match(head) else None
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip(data)
    if head[257:262] == b"ustar":
        return _tar(head)
    if len(head) > 8 and not any(head):
        return Kind("nothing but zeros where it begins: a download broken off", _AGAIN)
    return _model(data, head) or _old_pickle(head) or _text(data, head)


def refuse_other_kinds(data: memoryview, way_on: str) -> None:
    """Refuse a file that is known to be something else than a pickle.

    Args:
      data: the file.
      way_on: what is wanted in its place, for kinds that hold what may be of use.

    Raises:
      CheckpointError: naming the kind, and what to do.
    """
    if kind := recognize(data):
        raise CheckpointError(f"it is {kind.name}; {kind.way_on or way_on}")


def _zip(data: memoryview) -> Kind:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names, whole = archive.namelist(), True
    except ZIP_DAMAGE:
        length = int.from_bytes(data[26:28], "little")
        names, whole = [bytes(data[30 : 30 + length]).decode("latin-1")], False
    leaves = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in leaves:
        return Kind("a TorchScript archive, a program")
    if any(re.fullmatch(r"[^/]*/?(data\.pkl|byteorder|version)", name) for name in names):
        return (
            Kind(TORCH_ARCHIVE)
            if whole
            else Kind("a truncated or damaged zip archive of torch.save", _AGAIN)
        )
    if not whole:
        return Kind("a truncated or damaged ZIP archive", _AGAIN)
    if names and all(name.endswith(".npy") for name in names):
        return Kind("a NumPy archive (.npz)")
    held = printable(", ".join(names[:3]) + ", ..." * (len(names) > 3)) or "nothing"
    return Kind(f"a ZIP archive, holding {held}", _UNPACK)


def _tar(head: bytes) -> Kind:
    name = head[:100].split(b"\0")[0].decode("latin-1")
    if name.removeprefix("./") in _OLDEST_TORCH:
        return Kind("a tar archive of the first releases of PyTorch")
    return Kind(f"a tar archive, holding {printable(name)}", _UNPACK)


def _model(data: memoryview, head: bytes) -> Kind | None:
    length = int.from_bytes(head[:8], "little")
    if head[8:10] in (b'{"', b"{}", b"{ ") and 2 <= length <= _LARGEST_HEADER:
        if length + 8 > len(data):
            return Kind("a truncated safetensors file", _AGAIN)
        return Kind(f"{SAFETENSORS}, weights without the generator that uses them")
    # Protocol buffers: field 1, a small number, then a message or a string.
    if len(head) > 16 and head[0] == 0x08 and head[1] < 0x40 and head[2] & 7 == 2:
        known = any(word in head.lower() for word in (b"pytorch", b"onnx"))
        name = "an ONNX model" if known else "an ONNX or TensorFlow model (protocol buffers)"
        return Kind(name, "give the checkpoint that it was made from")
    return None


def _old_pickle(head: bytes) -> Kind | None:
    if re.match(rb"\((d|l|t)p?\d+\n|[}\]]q\x00|\((d|l)\.", head):
        return Kind(
            "a pickle of protocol 0 or 1", "write it again with pickle.dump(..., protocol=4)"
        )
    return None


def _text(data: memoryview, head: bytes) -> Kind | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Kind("a text file (UTF-16)")
    # A pickle of protocol 0 is text, too; the machine says what it names.
    if head[:1] in (b"(", b"c") and data[-1:] == b"." and b"\n" in head:
        return None
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8-sig")
    if sum(not (char.isprintable() or char in "\r\n\t\f") for char in text):
        return None
    text = text.strip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        named = f", {printable(' '.join(title[1].split()), _SHOWN)!r}," if title else ""
        name = f"a web page{named} or an XML message in place of the file"
        return Kind(name, "open its address in a browser and download the file there")
    shown = printable(text, _SHOWN)
    if text.startswith(("{", "[")):
        return Kind(f"JSON text ({shown})", "if it is a server's error, download the file again")
    return Kind(f"a text file ({shown})" if text else "a file of nothing but blanks")
