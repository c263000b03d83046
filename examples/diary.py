#!/usr/bin/env python3
"""Writes into a diary:  diary.py HOST PORT [TEXT]...   (no TEXT: each line of the input is an entry)
Reads it:  diary.py HOST PORT --history [N | all | DATE | DATE..DATE | '#SEQ..']"""
import socket, sys, threading

if len(sys.argv) < 3:
    sys.exit(__doc__)
host, port, *words = sys.argv[1:]
texts = "\n".join(words).encode(errors="surrogateescape").split(b"\n") if words else sys.stdin.buffer
texts = (text.rstrip(b"\r\n") for text in texts)
lines = (b"/" * text.startswith(b"/") + text + b"\n" for text in texts if text)
if words[:1] == ["--history"]:
    lines = [" ".join(["/history", *words[1:]]).encode() + b"\n"]
diary, sent, acked = socket.create_connection((host, int(port))), [0], 0
def send():  # beside the reading, because a server waits for clients that do not read its answers
    for line in lines:
        sent[0] += 1
        diary.sendall(line)
    diary.shutdown(socket.SHUT_WR)  # nothing more to say; all answers still come
(sender := threading.Thread(target=send)).start()
for answer in diary.makefile("rb"):
    acked += answer.startswith(b"ok ")
    print(answer.decode().rstrip("\n"), flush=True)
sender.join()
sys.exit(f"{sent[0] - acked} lines got no ok" if sent[0] > acked else 0)
