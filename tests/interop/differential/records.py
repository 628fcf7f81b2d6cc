"""Record batches, as a producer writes them."""

import struct

POLYNOMIAL = 0x82F63B78


def table():
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (POLYNOMIAL if entry & 1 else 0)
        entries.append(entry)
    return entries


TABLE = table()


def crc32c(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def blob(content):
    return varint(-1) if content is None else varint(len(content)) + content


def batch(records, timestamp, producer_id=-1, epoch=-1, sequence=-1, attributes=0, magic=2, crc=None):
    """Returns an uncompressed batch of (key, value) pairs."""
    payload = b""
    for number, (key, value) in enumerate(records):
        body = b"\0" + varint(0) + varint(number) + blob(key) + blob(value) + varint(0)
        payload += varint(len(body)) + body
    count = len(records)
    covered = struct.pack(">hiqqqhii", attributes, count - 1, timestamp, timestamp, producer_id, epoch, sequence, count)
    covered += payload
    check = crc32c(covered) if crc is None else crc
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, magic, check) + covered
