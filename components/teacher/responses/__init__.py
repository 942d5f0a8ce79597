"""The response store: what the teacher has answered once is never asked, or paid for, again.

    replies/<run>/<writer>-<n>.jsonl        a segment: one reply a line, with its request, cost and checksum
    replies/<run>/<writer>-<n>.jsonl.idx    its index, once it is complete; can be made again from the segment

A segment has one writer, so that any number of processes write at once without a lock. In a folder it grows by appending. An S3
object cannot grow: there a small one is put anew, whole, each time replies have come in, and many small ones are packed into a large
one later. What a kill, a full disk or a broken disk left of a line is told by its checksum, and asked again, never served.
"""
