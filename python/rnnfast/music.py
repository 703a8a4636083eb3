"""Notes to a file that any player plays: a Standard MIDI File of format 0, one voice or chords, written by hand.

A worked example and users call it with what a SequenceGenerator over note tokens made. It knows files.py, which writes
the file whole or not at all, and neither tokens nor models.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from .files import write_atomically

__all__ = ["note_of", "write_midi"]

TICKS = 480  # of a quarter note: halves, thirds, quarters, fifths of a beat and their halves are whole numbers
LONGEST = (1 << 28) - 1  # ticks that a variable-length quantity holds


def write_midi(
    path: str | os.PathLike[str],
    notes: Iterable[tuple[Any, float]],
    *,
    tempo: float = 120.0,
    program: int = 0,
    velocity: int = 80,
) -> None:
    """Write notes, one after the other, as a Standard MIDI File.

    Parameters
    ----------
    path : the file to write, as a rule ``.mid``; whole or not at all
    notes : iterable of (pitch, duration)
        pitch: a MIDI number in 0..127, where 60 is middle C and 69 the A of 440 Hz; several of them for a chord; None
        for a rest. duration: in quarter notes, positive; onsets are rounded to 1/480 of one, and do not drift.
    tempo : float
        Quarter notes per minute, from 4 to 60,000,000.
    program : int in 0..127
        Instrument of General MIDI; 0 is a piano.
    velocity : int in 1..127
        How hard the keys are struck.

    Raises
    ------
    ValueError
        No note at all; a note, which is named, or another argument out of range.
    OSError
        The file cannot be written; what stood there is untouched.

    Notes
    -----
    The format is that of The Complete MIDI 1.0 Detailed Specification (MIDI Manufacturers Association 1996).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from rnnfast.music import write_midi
    >>> path = pathlib.Path(tempfile.mkdtemp(), "cadence.mid")
    >>> write_midi(path, [(67, 1), (65, 0.5), (None, 0.5), ((60, 64, 67), 2)], tempo=90)
    >>> path.read_bytes()[:4]
    b'MThd'
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a str or path, got {path!r}")
    microseconds = round(60e6 / tempo) if _is_real(tempo) and 0 < tempo < math.inf else 0
    if not 1 <= microseconds < 1 << 24:
        raise ValueError(f"tempo: expected quarter notes per minute, from 4 to 60,000,000, got {tempo!r}")
    _check_byte("program", program, 0)
    _check_byte("velocity", velocity, 1)
    track = bytearray(b"\x00\xff\x51\x03" + microseconds.to_bytes(3, "big") + bytes([0, 0xC0, program]))
    if not isinstance(notes, Iterable):
        raise TypeError(f"notes: expected (pitch, duration) pairs, got {notes!r}")
    now, last = 0.0, 0  # the end of the last note in quarter notes; the tick of the last event
    for place, note in enumerate(notes):
        keys, duration = _check_note(f"notes[{place}]", note)
        start, end = round(now * TICKS), round((now + duration) * TICKS)
        for status, tick, force in ((0x90, start, velocity), (0x80, end, 0)):
            for key in keys:
                track += _quantity(tick - last, place) + bytes([status, key, force])
                last = tick
        now += duration
    if now == 0:
        raise ValueError("notes: expected at least one note, got none")
    track += _quantity(round(now * TICKS) - last, place) + b"\xff\x2f\x00"
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS)  # format 0, one track
    write_atomically(path, header + struct.pack(">4sI", b"MTrk", len(track)) + track)


def note_of(token: Any) -> tuple[int | None, float]:
    """Return (pitch, duration in quarter notes) of a token, for :func:`write_midi`.

    Parameters
    ----------
    token : str "pitch:duration", or integer
        The pitch as a MIDI number, -1 for a rest; the duration in thirty-seconds of a whole note, 8 is a quarter,
        which a pitch alone lasts. ``rnnfast.datasets.load_chorales`` has notes in these units.

    Raises
    ------
    ValueError
        The token is no note.

    Examples
    --------
    >>> note_of("67:12"), note_of("-1:8"), note_of(60)
    ((67, 1.5), (None, 1.0), (60, 1.0))
    """
    try:
        pitch, duration, *rest = [int(part) for part in f"{token}:8".split(":")]
    except ValueError:
        pitch, duration, rest = -2, 0, []
    if not -1 <= pitch <= 127 or duration < 1 or len(rest) > 1:
        raise ValueError(f"token: expected a note, as '67:8' for pitch 67 and 8 thirty-seconds, got {token!r}")
    return None if pitch < 0 else pitch, duration / 8


def _quantity(number: int, place: int) -> bytes:
    """A variable-length quantity: 7 bits in each byte, the high bit where more follow."""
    if number > LONGEST:
        raise ValueError(f"notes[{place}]: expected at most {LONGEST // TICKS} quarter notes, got {number / TICKS}")
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


def _check_note(name: str, note: Any) -> tuple[list[int], float]:
    """The keys, none for a rest, and the duration."""
    try:
        pitch, duration = note
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected (pitch, duration), got {note!r}") from None
    if not _is_real(duration) or not 0 < duration < math.inf:
        raise ValueError(f"{name}: expected a positive duration in quarter notes, got {duration!r}")
    if pitch is None:
        return [], float(duration)
    keys = list(pitch) if isinstance(pitch, Iterable) and not isinstance(pitch, str) else [pitch]
    for key in keys:
        _check_byte(f"{name}: pitch", key, 0, ", several for a chord, None for a rest")
    if len(set(keys)) < max(len(keys), 1):
        raise ValueError(f"{name}: pitch: expected different numbers, at least one, got {pitch!r}")
    return [int(key) for key in keys], float(duration)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_byte(name: str, value: Any, lowest: int, otherwise: str = "") -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or not lowest <= int(value) <= 127:
        raise ValueError(f"{name}: expected an integer in {lowest}..127{otherwise}, got {value!r}")
