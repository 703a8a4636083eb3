"""music.py: files are parsed back by a reader of the format that is written here."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rnnfast.music import note_of, write_midi


def read_midi(path: Path) -> tuple[dict[str, Any], list[tuple[int, str, int]]]:
    """The header with tempo and program, and (tick, "on" or "off", key) of each event."""
    data = path.read_bytes()
    kind, size, form, tracks, ticks = struct.unpack(">4sIHHH", data[:14])
    assert (kind, size, form, tracks) == (b"MThd", 6, 0, 1)
    kind, size = struct.unpack(">4sI", data[14:22])
    assert kind == b"MTrk"
    assert size == len(data) - 22
    head: dict[str, Any] = {"ticks": ticks}
    events, now, i = [], 0, 22
    while True:
        delta = 0
        while True:
            delta = delta << 7 | data[i] & 0x7F
            i += 1
            if not data[i - 1] & 0x80:
                break
        now += delta
        status = data[i]
        if status == 0xFF:
            kind_of_meta, length = data[i + 1], data[i + 2]
            value = data[i + 3 : i + 3 + length]
            i += 3 + length
            if kind_of_meta == 0x2F:
                assert i == len(data)
                head["end"] = now
                return head, events
            assert kind_of_meta == 0x51
            head["tempo"] = 60e6 / int.from_bytes(value, "big")
        elif status == 0xC0:
            head["program"] = data[i + 1]
            i += 2
        else:
            assert status in (0x80, 0x90)
            events.append((now, "on" if status == 0x90 else "off", data[i + 1]))
            head["velocity"] = max(head.get("velocity", 0), data[i + 2])
            i += 3


def test_a_tune(tmp_path: Path) -> None:
    path = tmp_path / "tune.mid"
    write_midi(path, [(60, 1), (62, 0.5), (None, 1.5), (62, Fraction(1, 3)), ((60, 64, 67), np.float32(4))], tempo=90,
               program=40, velocity=99)  # fmt: skip
    head, events = read_midi(path)
    assert events == [
        (0, "on", 60), (480, "off", 60), (480, "on", 62), (720, "off", 62), (1440, "on", 62), (1600, "off", 62),
        (1600, "on", 60), (1600, "on", 64), (1600, "on", 67), (3520, "off", 60), (3520, "off", 64), (3520, "off", 67),
    ]  # fmt: skip
    assert head.pop("tempo") == pytest.approx(90, rel=1e-5)
    assert head == {"ticks": 480, "program": 40, "velocity": 99, "end": 3520}


def test_rests_at_both_ends_and_long_times(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", [(None, 300), (np.int64(127), 40.5), (None, 2)])
    head, events = read_midi(tmp_path / "a.mid")
    assert events == [(144000, "on", 127), (163440, "off", 127)]  # deltas of three bytes
    assert head["end"] == 164400
    write_midi(tmp_path / "b.mid", [(None, 1)])
    assert read_midi(tmp_path / "b.mid")[1] == []


def test_onsets_do_not_drift(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", [(60, 1 / 7)] * 700)
    head, events = read_midi(tmp_path / "a.mid")
    assert head["end"] == 48000
    onsets = [tick for tick, what, _ in events if what == "on"]
    np.testing.assert_allclose(onsets, np.arange(700) * 480 / 7, atol=0.51)


def test_tokens(tmp_path: Path) -> None:
    tokens = ["60:8", "-1:4", "62:1", 64, np.int64(65), "67"]
    notes = [note_of(token) for token in tokens]
    assert notes == [(60, 1.0), (None, 0.5), (62, 0.125), (64, 1.0), (65, 1.0), (67, 1.0)]
    write_midi(tmp_path / "a.mid", notes)
    assert len(read_midi(tmp_path / "a.mid")[1]) == 10
    for wrong in ("<unk>", "60:", ":8", "60:0", "128:8", "-2:8", "60:8:8", "60.5:8", "", None, 1.5, "60:-8"):
        with pytest.raises(
            ValueError,
            match=re.escape(f"token: expected a note, as '67:8' for pitch 67 and 8 thirty-seconds, got {wrong!r}"),
        ):
            note_of(wrong)


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    write_midi(path, [(60, 1)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="pitch"):
        write_midi(path, [(61, 1), (500, 1)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mid"]
    with pytest.raises(OSError, match="nowhere"):
        write_midi(tmp_path / "nowhere" / "a.mid", [(61, 1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"notes": []}, "notes: expected at least one note, got none"),
        ({"notes": [(60, 1), 60]}, "notes[1]: expected (pitch, duration), got 60"),
        ({"notes": [(60, 0)]}, "notes[0]: expected a positive duration in quarter notes, got 0"),
        ({"notes": [(60, "1")]}, "notes[0]: expected a positive duration in quarter notes, got '1'"),
        ({"notes": [(60, float("nan"))]}, "notes[0]: expected a positive duration in quarter notes, got nan"),
        ({"notes": [(128, 1)]}, "notes[0]: pitch: expected an integer in 0..127, several for a chord, None for a rest"),
        ({"notes": [("C4", 1)]}, "None for a rest, got 'C4'"),
        ({"notes": [((60, 60), 1)]}, "notes[0]: pitch: expected different numbers, at least one, got (60, 60)"),
        ({"notes": [((), 1)]}, "notes[0]: pitch: expected different numbers, at least one, got ()"),
        ({"notes": [(None, 1), (60, 1e9)]}, "notes[1]: expected at most 559240 quarter notes, got 1000000000.0"),
        ({"notes": [(None, 1e9)]}, "notes[0]: expected at most 559240 quarter notes"),
        ({"tempo": 3}, "tempo: expected quarter notes per minute, from 4 to 60,000,000, got 3"),
        ({"tempo": 0}, "tempo: expected quarter notes per minute, from 4 to 60,000,000, got 0"),
        ({"tempo": 1e9}, "tempo: expected quarter notes per minute, from 4 to 60,000,000, got 1000000000.0"),
        ({"program": 128}, "program: expected an integer in 0..127, got 128"),
        ({"velocity": 0}, "velocity: expected an integer in 1..127, got 0"),
        ({"velocity": 64.0}, "velocity: expected an integer in 1..127, got 64.0"),
    ],
)
def test_errors(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        write_midi(tmp_path / "a.mid", **{"notes": [(60, 1)], **arguments})
    assert list(tmp_path.iterdir()) == []


def test_no_notes_at_all(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=re.escape("notes: expected (pitch, duration) pairs, got None")):
        write_midi(tmp_path / "none.mid", None)  # type: ignore[arg-type]
    assert not (tmp_path / "none.mid").exists()
