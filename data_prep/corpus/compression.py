"""Files as streams of bytes, decompressed on the way; concatenated members and frames read as one stream."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

Compression = Literal["gz", "zst", "xz", "bz2"]
BUFFER = 1 << 18
"""Bytes read at once. At damage in a .zst file, up to this much good text before it is lost."""


class DamagedFileError(Exception):
    """A file whose bytes make no sense from some place on; says what is wrong and what to do."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def open_bytes(path: Path, compression: Compression | None) -> io.BufferedReader:
    """The bytes of a file, decompressed.

    Raises, also from the methods of the stream:
        OSError: the file cannot be read.
        DamagedFileError: it is not what its suffix says, is truncated, or fails its checksum.
    """
    file = path.open("rb", buffering=0)
    return io.BufferedReader(_Decompressed(file, compression) if compression else file, BUFFER)


class _Decompressed(io.RawIOBase):
    """A decompressor as a raw stream whose failures all look alike."""

    def __init__(self, file: io.FileIO, compression: Compression) -> None:
        self._file = file
        self._compression = compression
        self._decompressor: _Readable | None = None  # made at the first read, where failures are translated

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            if self._decompressor is None:
                self._decompressor = _decompressor(io.BufferedReader(self._file, BUFFER), self._compression)
            read = getattr(self._decompressor, "read1", self._decompressor.read)
            content = read(len(buffer))
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk failed, not the decompressor
            raise DamagedFileError(f"damaged {self._compression} file ({error}); fetch it again") from error
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _decompressor(file: io.BufferedReader, compression: Compression) -> _Readable:
    if compression == "gz":
        return gzip.GzipFile(fileobj=file)
    if compression == "xz":
        return lzma.LZMAFile(file)
    if compression == "bz2":
        return bz2.BZ2File(file)
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
