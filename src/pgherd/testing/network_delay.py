"""A cable that takes its time: two TAP devices, and every frame that enters one leaves the other a while later.

`python -m pgherd.testing.network_delay OUTSIDE INSIDE MILLISECONDS`; ends with its parent. For kernels without netem.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import signal
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_TAP, _NO_INFO = 0x0002, 0x1000
_FRAMES_MAX = 20_000  # on the way in one direction; more are lost, as in any switch


def _tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP | _NO_INFO))
    return device


def main() -> None:
    outside, inside, delay_s = sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    devices = _tap(outside), _tap(inside)
    ways = {devices[0]: devices[1], devices[1]: devices[0]}
    queue: deque[tuple[float, int, bytes]] = deque()  # one delay for all: the order stays
    with selectors.DefaultSelector() as selector:
        for device in devices:
            selector.register(device, selectors.EVENT_READ)
        while True:
            wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
            for key, _ in selector.select(wait):
                _read(key.fd, ways[key.fd], delay_s, queue)
            now = time.monotonic()
            while queue and queue[0][0] <= now:
                _, target, frame = queue.popleft()
                _write(target, frame)


def _read(source: int, target: int, delay_s: float, queue: deque[tuple[float, int, bytes]]) -> None:
    for _ in range(64):
        try:
            frame = os.read(source, 65536)
        except (BlockingIOError, OSError):
            return
        if len(queue) < _FRAMES_MAX:
            queue.append((time.monotonic() + delay_s, target, frame))


def _write(target: int, frame: bytes) -> None:
    try:
        os.write(target, frame)
    except OSError:
        return  # the device is down: the frame is lost


if __name__ == "__main__":
    main()
