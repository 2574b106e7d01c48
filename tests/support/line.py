"""A bad line between two interfaces: delay, rate, loss and a queue that is full at some point.

  line.py carry FIRST SECOND DELAY_MS BITS_PER_SECOND LOSS_PERCENT QUEUE_PACKETS SEED
  line.py plain INTERFACE

`plain` has an interface send packets as they are on a wire: each of its own, with its checksum.
`carry` says "ready" and carries frames until it is killed.
"""

import array
import collections
import fcntl
import random
import select
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
# Off: checksums of sent packets, TCP segments left to the card, the same in general, and received
# packets put together.
OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
PACKET_OUTGOING = 4
ALL = 0x0003


def plain(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(control.fileno(), SIOCETHTOOL, request)


class Direction:
    def __init__(self, out, delay, rate, loss, room, chance):
        self.out, self.delay, self.rate, self.loss = out, delay, rate, loss
        self.room, self.chance = room, chance
        self.free = 0.0
        self.sent = collections.deque()
        self.flight = collections.deque()

    def take(self, now, frame):
        while self.sent and self.sent[0] <= now:
            self.sent.popleft()
        if len(self.sent) >= self.room:
            return
        self.free = max(self.free, now) + len(frame) * 8 / self.rate
        self.sent.append(self.free)
        if self.chance.random() * 100 >= self.loss:
            self.flight.append((self.free + self.delay, frame))

    def give(self, now):
        while self.flight and self.flight[0][0] <= now:
            try:
                self.out.send(self.flight.popleft()[1])
            except OSError:
                pass  # An interface that is down loses what it is given.

    def next(self):
        return self.flight[0][0] if self.flight else None


def carry(first, second, delay, rate, loss, room, seed):
    ends = []
    for interface in (first, second):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        end.bind((interface, 0))
        ends.append(end)
    chance = random.Random(int(seed))
    settings = float(delay) / 1000, float(rate), float(loss), int(room), chance
    ways = {ends[0]: Direction(ends[1], *settings), ends[1]: Direction(ends[0], *settings)}
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        for way in ways.values():
            way.give(now)
        due = [way.next() for way in ways.values() if way.next() is not None]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        for end in select.select(ends, [], [], wait)[0]:
            frame, source = end.recvfrom(65536)
            if source[2] == PACKET_OUTGOING:
                continue
            if frame[12:14] == b"\x08\x06":
                # Who has which address is not the line's business.
                ways[end].out.send(frame)
            elif frame[12:14] == b"\x08\x00":
                ways[end].take(time.monotonic(), frame)


if __name__ == "__main__":
    {"plain": plain, "carry": carry}[sys.argv[1]](*sys.argv[2:])
