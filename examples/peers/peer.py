#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A peer of an FdSocket, in Python alone: peer.py PATH [listen]

Answers each picture it is sent with its negative, in memory of its own, and each other message with that message.
docs/sockets.md has the format.
"""
import fcntl
import json
import mmap
import os
import socket
import struct
import sys

HEADER = struct.Struct("<IHBB")  # bytes of the body, descriptors, what the body is, whether they are lent
JSON, RELEASE = 0, 3
MOST_FDS = 253


def receive(peer):
    """The next message: what it is, its body, its descriptors and the number of the loan; None at the end."""
    # The descriptors come with the first byte. One that is not closed here is lost for good.
    data, fds, flags, _ = socket.recv_fds(peer, HEADER.size, MOST_FDS)
    if not data:
        return None
    if flags & socket.MSG_CTRUNC:
        raise OSError("descriptors were lost: this process has none left")
    data += read_all(peer, HEADER.size - len(data))
    length, count, kind, lent = HEADER.unpack(data)
    if count != len(fds):
        raise OSError(f"{count} descriptors announced, {len(fds)} came")
    body = read_all(peer, length)
    loan = None
    if lent:
        (loan,), body = struct.unpack("<I", body[:4]), body[4:]
    return kind, body, fds, loan


def read_all(peer, count):
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise OSError("the peer has closed in the middle of a message")
        data += more
    return data


def send(peer, body, fds=(), kind=JSON):
    message = HEADER.pack(len(body), len(fds), kind, 0) + body
    sent = socket.send_fds(peer, [message], fds)
    # Not of nothing: the peer has all of it, and may be gone.
    if sent < len(message):
        peer.sendall(message[sent:])


def negative(fd):
    """A new buffer, which is sealed: nobody can cut it off while another has it mapped."""
    size = os.lseek(fd, 0, os.SEEK_END)
    made = os.memfd_create("negative", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(made, size)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as theirs, mmap.mmap(made, size) as ours:
        ours[:] = theirs[:].translate(bytes(255 - value for value in range(256)))
    return made


def serve(peer):
    while (message := receive(peer)) is not None:
        kind, body, fds, loan = message
        made = [negative(fd) for fd in fds]
        for fd in fds:
            os.close(fd)
        if loan is not None:
            send(peer, struct.pack("<I", loan), kind=RELEASE)
        value = json.loads(body) if kind == JSON else list(body)
        send(peer, json.dumps({"peer": "Python", "value": value}).encode(), made)
        for fd in made:
            os.close(fd)


def main(path, listen=None):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        if listen is None:
            own.connect(path)
            serve(own)
        else:
            own.bind(path)
            own.listen()
            peer, _ = own.accept()
            os.unlink(path)
            with peer:
                serve(peer)


main(*sys.argv[1:])
