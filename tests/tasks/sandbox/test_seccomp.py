"""The filter of system calls, run by an interpreter of its own: verdict by number, without a kernel."""

from __future__ import annotations

import errno
import platform
import struct

import pytest

from scalerl_lab.tasks.sandbox.seccomp import DENIED, filter_program

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _verdict(program: bytes, number: int, arch: int, argument: int = 0) -> int:
    """What the kernel does with a system call (classic BPF, Linux filter.rst)."""
    data = struct.pack("<IIQ6Q", number, arch, 0, argument, 0, 0, 0, 0, 0)
    code = list(struct.iter_unpack("=HBBI", program))
    place, held = 0, 0
    while True:
        what, if_true, if_false, operand = code[place]
        place += 1
        if what == 0x20:
            (held,) = struct.unpack_from("<I", data, operand)
        elif what == 0x06:
            return operand
        else:
            holds = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[what]
            place += if_true if holds else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_denied_call_is_denied_and_its_neighbours_are_not(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    program = filter_program()
    assert program is not None
    column = 0 if machine == "x86_64" else 1
    clone, clone3 = ((56, 435), (220, 435))[column]
    denied = {numbers[column] for numbers in DENIED.values()}
    for number in range(470):
        expected = EPERM if number in denied else ENOSYS if number == clone3 else ALLOW
        assert _verdict(program, number, ARCH[machine]) == expected, number
    # SIGCHLD alone is a fork; CLONE_VM | CLONE_THREAD and their kin a thread; CLONE_NEWUSER is neither.
    for flags, expected in ((17, ALLOW), (0x003D0F00, ALLOW), (0x10000011, EPERM), (0x20000000, EPERM)):
        assert _verdict(program, clone, ARCH[machine], flags) == expected
    assert _verdict(program, 1, 0x40000003) == KILL  # another architecture's numbers


def test_numbers_of_the_32_bit_interface_are_denied_on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    program = filter_program()
    assert program is not None
    assert _verdict(program, 0x40000000 | 41, ARCH["x86_64"]) == EPERM


def test_an_unknown_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    assert filter_program() is None
