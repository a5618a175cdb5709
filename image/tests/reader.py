"""Reads a checkpoint image and checks all of it: an independent reader, written after docs/image-format.md alone.

Prints what is in the image, a line for each thing, and fails if anything is not as the document says.
"""

import json
import struct
import sys
import zlib

import lz4.block
import xxhash
import zstandard

PAGE, CHUNK = 4096, 1 << 20
FORMAT, IDENTITY, RESTORE, REGIONS, NAMES, EXTENTS, THREADS, SECTION, BLOB = range(0x44540001, 0x4454000A)
SUMS, END, FRAMES = 0x44540010, 0x44540011, 0x44540012
MASK = (1 << 64) - 1


class Wrong(Exception):
    """The file is not an image, or a damaged one."""


def check(condition, what):
    """Fails with a sentence."""
    if not condition:
        raise Wrong(what)


def part(data, offset, length):
    """Bytes that must be in the file."""
    check(offset + length <= len(data), f"{length} bytes at {offset} are beyond the end")
    return data[offset : offset + length]


def notes(data):
    """Owner, type and bytes of each note of a segment."""
    at = 0
    while at + 12 <= len(data):
        owner_size, size, kind = struct.unpack_from("<III", data, at)
        owner = part(data, at + 12, owner_size).rstrip(b"\0").decode()
        start = at + 12 + (owner_size + 3) // 4 * 4
        yield owner, kind, part(data, start, size)
        at = start + (size + 3) // 4 * 4


def table(data, form):
    """An array of records."""
    size = struct.calcsize(form)
    check(len(data) % size == 0, "a table has a broken length")
    return [struct.unpack_from(form, data, at) for at in range(0, len(data), size)]


def advance(total, offset, run):
    """The checksum so far, advanced by a run of pages."""
    rotated = (total << 17 | total >> 47) & MASK
    return xxhash.xxh3_64_intdigest(run, seed=rotated ^ (offset * 0x9E3779B97F4A7C15 & MASK))


def chunk_sum(chunk):
    """The checksum of a chunk."""
    total, run = 0, None
    for at in range(0, len(chunk) + PAGE, PAGE):
        empty = not chunk[at : at + PAGE].strip(b"\0")
        if empty and run is not None:
            total, run = advance(total, run, chunk[run : min(at, len(chunk))]), None
        elif not empty and run is None:
            run = at
    return total


def named(data):
    """Plugin and name that a section or a blob begins with, and the rest."""
    plugin, name = struct.unpack_from("<II", data)
    text = part(data, 8, plugin + name).decode()
    return f"{text[:plugin]}/{text[plugin:]}", data[8 + plugin + name :]


def expanded(codec, frame, length):
    """A chunk from its frame."""
    if codec == 1:
        return zlib.decompress(frame, wbits=-15)
    if codec == 2:
        return lz4.block.decompress(frame, uncompressed_size=length)
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)


def read(data):
    """Checks an image and prints what is in it."""
    check(data[:7] == b"\x7fELF\2\1\1" and data[16:20] == b"\4\0\x3e\0", "no core of this machine")
    table_at, sections_at = struct.unpack_from("<QQ", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    if count == 0xFFFF:
        (count,) = struct.unpack_from("<I", part(data, sections_at, 64), 44)
    headers = table(part(data, table_at, count * 56), "<IIQQQQQQ")
    (kind_a, _, meta_at, _, _, meta_size, _, _), (kind_b, _, end_at, _, _, end_size, _, _) = headers[:2]
    check(kind_a == kind_b == 4, "metadata and trailer are no notes")

    ours, listed = {}, []
    for owner, kind, body in notes(part(data, meta_at, meta_size)):
        if owner != "DMTCP":
            listed.append(f"note {owner} {kind:x} {len(body)}")
        else:
            ours.setdefault(kind, []).append(body)
    version, page, sum_count, length, codec, _ = struct.unpack_from("<IIQQII", ours[FORMAT][0])
    check(version == 1 and page == PAGE and codec <= 3, "another format")
    trailer = {kind: body for owner, kind, body in notes(part(data, end_at, end_size)) if owner == "DMTCP"}
    magic, header_sum, sums_sum, end_length = struct.unpack_from("<8sQQQ", trailer[END])
    check(magic == b"DMTCPEND" and length == end_length == len(data), "not written to its end")
    header_end = (meta_at + meta_size + PAGE - 1) // PAGE * PAGE
    check(xxhash.xxh3_64_intdigest(part(data, 0, header_end), seed=0) == header_sum, "the header is damaged")
    total = xxhash.xxh3_64_intdigest(trailer[SUMS], seed=0)
    if codec:
        total = advance(total, 0, trailer[FRAMES])
    check(total == sums_sum, "the tables are damaged")

    identity = json.loads(ours[IDENTITY][0])
    print("image", identity["computation"], identity["generation"], identity["program"])
    print("entry", *(f"{value:x}" for value in struct.unpack_from("<QQ", ours[RESTORE][0])))
    for tid, role, slot, name in table(ours[THREADS][0], "<iIQ16s"):
        print("thread", tid, role, f"{slot:x}", name.rstrip(b"\0").decode())
    regions, before = [], 0
    for start, end, _, inode, object_, flags, _, _, prot, kind, name_at, name_size in table(
        ours[REGIONS][0], "<QQQQQQIIIIII"
    ):
        check(before <= start < end and (start | end) % PAGE == 0, "the regions overlap")
        before = end
        regions.append((start, end))
        name = part(ours[NAMES][0], name_at, name_size).decode()
        print("region", f"{start:x}-{end:x}", prot, kind, f"{flags:x}", object_, inode, name)
    print("\n".join(listed))
    for body in ours.get(SECTION, []):
        name, rest = named(body)
        print("section", name, len(rest))
    extents = table(ours[EXTENTS][0], "<QQQQ")
    for body in ours.get(BLOB, []):
        name, rest = named(body)
        index, size = struct.unpack("<QQ", rest)
        check(extents[index][0] == 0 and extents[index][1] == size, "a blob is misplaced")
        print("blob", name, index, size)

    sums = [value for (value,) in table(trailer[SUMS], "<Q")]
    check(len(sums) == sum_count, "checksums are missing")
    frames = table(trailer[FRAMES], "<QII") if codec else []
    following = 0
    for address, size, offset, first in extents:
        check(first == following, "an extent's checksums are misplaced")
        inside = any(start <= address and address + size <= end for start, end in regions)
        check(address == 0 or inside, "an extent belongs to no region")
        for index in range((size + CHUNK - 1) // CHUNK):
            wanted = min(CHUNK, size - index * CHUNK)
            if codec and address:
                frame_at, frame_size, kind = frames[first + index]
                frame = part(data, frame_at, frame_size)
                chunk = {0: lambda: bytes(wanted), 1: lambda: frame, 2: lambda: expanded(codec, frame, wanted)}[kind]()
            else:
                chunk = part(data, offset + index * CHUNK, wanted)
            check(len(chunk) == wanted and chunk_sum(chunk) == sums[first + index], f"memory of {address:x} is damaged")
            print("chunk", f"{address + index * CHUNK:x}", f"{sums[first + index]:016x}")
        following += (size + CHUNK - 1) // CHUNK


if __name__ == "__main__":
    try:
        with open(sys.argv[1], "rb") as file:
            read(file.read())
    except (Wrong, KeyError, IndexError, ValueError, struct.error, zlib.error, zstandard.ZstdError) as error:
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
