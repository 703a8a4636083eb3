"""Model files: safetensors, never pickle; written whole or not at all.

A file holds arrays and one JSON text: kind, format version, settings, and the SHA-256 of settings and arrays. Called
by estimators/, checkpoint.py and music.py; it must not know what the arrays mean, and resolves no name that it reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .checks import check_path

__all__ = ["FORMAT_VERSION", "ModelFileError", "kind_of", "read_model", "write_atomically", "write_model"]

FORMAT_VERSION = 1


class ModelFileError(ValueError):
    """A file that is not a model which can be read; the message says why."""


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a temporary file beside `path`, sync it, rename it: a reader sees the old file or the new one, whole.

    Raises
    ------
    OSError
        A full disk, a read-only folder: names the path; what stood there is untouched.
    """
    path = Path(os.path.realpath(check_path(path)))  # a link stays one
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}); what stood there is unchanged"
        ) from error
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def write_model(
    path: str | os.PathLike[str], kind: str, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]
) -> None:
    """Save arrays and settings (anything JSON can hold, and NumPy's numbers) as a safetensors file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    settings = json.loads(json.dumps(settings, default=_number))  # as they will be read
    header = {"kind": kind, "format": FORMAT_VERSION, "sha256": _sha256(arrays, settings), "settings": settings}
    text = json.dumps(header, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # halves of characters
        text = json.dumps(header)
    try:
        data = save(arrays, metadata={"rnnfast": text})
    except SafetensorError as error:
        raise ValueError(f"{path}: expected settings of less than 100 MB in all, got {len(text):,} characters "
                         f"({error})") from error  # fmt: skip
    write_atomically(path, data)


def kind_of(path: str | os.PathLike[str]) -> str:
    """The kind of model that a file says it holds; a ModelFileError or OSError as `read_model` raises."""
    path = check_path(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a model file, found {'a folder' if Path(path).is_dir() else 'none'}")
    try:
        with safe_open(path, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["rnnfast"])["kind"])
    except SafetensorError as error:
        raise ModelFileError(f"{path}: expected a safetensors file, got one that cannot be read ({error})") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path}: expected a model of rnnfast, got a safetensors file of something else"
        ) from error


def read_model(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and settings of a file that `write_model` wrote.

    Raises
    ------
    ModelFileError
        Not a safetensors file, not a model of rnnfast, of another kind, of another format, or damaged.
    OSError
        The file cannot be opened.
    """
    path = check_path(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a model file, found {'a folder' if Path(path).is_dir() else 'none'}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["rnnfast"])
            found, version = header["kind"], header["format"]
            if version != FORMAT_VERSION:
                raise ModelFileError(
                    f"{path}: expected format {FORMAT_VERSION}, which this version of rnnfast reads, got {version!r}"
                )
            if found != kind:
                raise ModelFileError(f"{path}: expected a {kind}, got a {found!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            settings: dict[str, Any] = header["settings"]
            if header["sha256"] != _sha256(arrays, settings):
                raise ModelFileError(f"{path}: expected a whole {kind}, got one whose checksum differs: it is damaged")
            return arrays, settings
    except ModelFileError:
        raise
    except MemoryError as error:
        raise MemoryError(f"{path}: not enough memory for what it holds") from error
    except SafetensorError as error:
        raise ModelFileError(f"{path}: expected a safetensors file, got one that cannot be read ({error})") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path}: expected a model of rnnfast, got a safetensors file of something else"
        ) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of safetensors, where memory ends
            raise MemoryError(f"{path}: not enough memory for what it holds") from error
        raise


def _sha256(arrays: dict[str, NDArray[Any]], settings: Any) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode("utf-8", "surrogatepass"))
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _number(value: Any) -> Any:
    if isinstance(value, np.longdouble):  # whose item is itself
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r}: expected a value that JSON can hold, got a {type(value).__name__}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
