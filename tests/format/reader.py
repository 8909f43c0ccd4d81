#!/usr/bin/env python3
"""Reads a Lifeboat repository in a directory, written from docs/format.md alone.

It shares no line with Lifeboat: it is the proof that the page suffices. Needs `blake3`,
`cryptography`, `cbor2` and `zstandard` from PyPI.

    reader.py vectors                                 every golden vector beside this file
    reader.py site REPOSITORY MASTER-KEY-FILE SITE    the newest snapshot of a site, every chunk checked
"""

import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path

import blake3
import cbor2
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PACK, MANIFEST, INDEX, COMMIT, RUN, BLOCK, SHARED, UNROUTED, FOOTER, EPOCH, LOG_COMMIT = range(1, 12)
RECOVERY_PLAN, RECOVERY_ENTRY, AUDIT_ENTRY = 13, 14, 15
CHUNK, PAGE, HEAD, TABLE, BODY, CHANGES = range(1, 7)


def hmac256(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(secret, salt, label, length=32):
    prk, out, block = hmac256(salt or bytes(32), secret), b"", b""
    while len(out) < length:
        block = hmac256(prk, block + label.encode() + bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def config(text):
    mark = b'  "sha256": "'
    body, tail = text[: text.rindex(mark)], text[text.rindex(mark) + len(mark) :]
    assert tail == hashlib.sha256(body).hexdigest().encode() + b'"\n}\n', "lifeboat.json is damaged"
    value = json.loads(text)
    assert value["version"] == 1 and value["features"]["read"] == [], "a newer format"
    return value


def unwrap(data, wrapping, kind, number=0, repository=None, site=bytes(16), under=bytes(8)):
    """The key in a key object, which must be the one that was asked for."""
    assert len(data) == 124
    magic, version, found_kind, zero, *found = struct.unpack_from("<8sHBBI16s16sq8s", data)
    assert (magic, version, found_kind, zero) == (b"LIFEBKEY", 1, kind, 0)
    assert (found[0], found[1], found[2], found[4]) == (number, repository, site, under), "another key"
    return AESGCM(wrapping).decrypt(data[64:76], data[76:], data[:64])


class Site:
    """The keys of one site, or of the repository itself."""

    def __init__(self, key, handle, number):
        self.handle, self.number = handle, number
        self.ids = hkdf(key, handle, "lifeboat/chunk-id-key")
        self.wrapping = AESGCM(hkdf(key, handle, "lifeboat/data-key-wrapping-key"))


class Repository:
    def __init__(self, root, repository):
        self.root, self.id = root, repository
        self.names = hkdf(root, repository, "lifeboat/name-key")
        self.row_keys = hkdf(root, repository, "lifeboat/row-key-hash-key")
        self.own = Site(hkdf(root, repository, "lifeboat/repository-object-key"), bytes(16), 0)

    def handle(self, site):
        return hmac256(self.names, site.encode())[:16]

    def row_key_hash(self, source, table, key):
        return hmac256(self.row_keys, cbor2.dumps([source, table, key]))[:16]

    def site(self, handle, number, data):
        wrapping = hkdf(self.root, self.id, "lifeboat/site-key-wrapping-key")
        return Site(unwrap(data, wrapping, 3, number, self.id, handle), handle, number)


class Object:
    """One sealed object: from its bytes, or from a reference and a way to read ranges of it."""

    def __init__(self, site, kind, object_id, sealed_key, read, length):
        self.site, self.read, self.length = site, read, length
        self.bound = struct.pack("<8sHBBI16s16s", b"LIFEBOAT", 1, kind, 0, site.number, site.handle, object_id)
        self.key = AESGCM(site.wrapping.decrypt(sealed_key[:12], sealed_key[12:], self.bound))

    @classmethod
    def whole(cls, site, kind, data, object_id=None):
        object_id = object_id or data[32:48]
        found = cls(site, kind, object_id, data[48:108], lambda at, size: data[at : at + size], len(data))
        assert data[:48] == found.bound, "another object"
        return found

    def trailer(self):
        offset, size, frames, magic = struct.unpack("<QII8s", self.read(self.length - 24, 24))
        assert magic == b"LIFEBEND" and offset + size == self.length - 24, "a damaged trailer"
        return offset, size, frames

    def open(self, kind, offset, size, chunk_id=bytes(32)):
        frame = self.read(offset, size)
        magic, found, zstd, zero, ordinal, raw, sealed, found_id = struct.unpack_from("<4sBBHIII32s", frame)
        assert (magic, found, zero, found_id) == (b"LBFR", kind, 0, chunk_id), "another frame"
        assert len(frame) == size == 52 + sealed and raw <= 1 << 26 and zstd in (0, 1), "impossible lengths"
        aad = self.bound + frame[:52] + struct.pack("<Q", offset)
        plain = self.key.decrypt(struct.pack("<IQ", ordinal, 0), frame[52:], aad)
        if zstd:
            plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=raw)
        assert len(plain) == raw
        return plain

    def body(self, kind, offset, size):
        return cbor2.loads(self.open(kind, offset, size))

    def frames(self):
        """Offset and stored_len of every frame, in order."""
        offset, (last, size, count) = 108, self.trailer()
        for ordinal in range(count):
            found, sealed = struct.unpack_from("<8xI4xI", self.read(offset, 52))
            assert found == ordinal, "frames are missing"
            yield offset, 52 + sealed
            offset += 52 + sealed
        assert offset == last + size, "a trailer of other frames"

    def chunk(self, chunk_id, offset, stored_len, raw_len):
        plain = self.open(CHUNK, offset, stored_len, chunk_id)
        assert len(plain) == raw_len and blake3.blake3(plain, key=self.site.ids).digest() == chunk_id, "another chunk"
        return plain


def manifest_entries(manifest, offset, size, pack):
    """Each entry of a manifest with its content, every chunk checked; `pack(row)` opens a pack."""
    head = manifest.body(HEAD, offset, size)
    packs = [manifest] + [pack(row) for row in head[4]]
    for page in head[3]:
        entries = manifest.body(PAGE, page[1], page[2])
        assert len(entries) == page[3] and entries[0][0] == page[4]
        for entry in entries:
            pieces = []
            for extent in entry[12]:
                if isinstance(extent, int):
                    pieces.append(extent)
                else:
                    chunk_id, number, *place = extent
                    pieces.append(packs[number].chunk(chunk_id, *place))
            covered = sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
            assert covered == entry[10], "extents do not cover the content"
            yield head[2][page[0]][0][0], entry, pieces


def in_order(before, head, sequence):
    """The place of a change, which comes after `before`."""
    assert ((head[1], sequence), head) > before and (before[1] == head or head[1] > before[0][0]), "order"
    return ((head[1], sequence), head)


def check_pages(table, change):
    """Pages of a database file ascend and are of one size, which is that of their step."""
    _, pages, step = change
    numbers, sizes = [page[0] for page in pages], {len(page[1]) for page in pages}
    assert not table[1] and numbers == sorted(set(numbers)) and len(sizes) <= 1 and 0 not in numbers, "pages"
    assert step or pages, "a change of no page"
    assert step is None or step != [None, None] and (step[1] or not pages), "a step"
    assert not step or not pages or sizes == {step[1][0]}, "another page size"


def kind_of(change):
    """0 inserted, 1 updated, 2 deleted: of pages, whether their file came, stayed or went."""
    if change[0] < 3:
        return change[0]
    step = change[2] or [True, True]
    return 0 if step[0] is None else 2 if step[1] is None else 1


def changes(block):
    """Each change of a block: head, sequence, table, change."""
    before = ((0, -1), None)
    for offset, size in block.frames():
        tables, transactions = block.body(CHANGES, offset, size)
        for head, rows in transactions:
            sequence = 0
            for told, table, change in rows:
                sequence += told
                name, columns, key = tables[table]
                wide, keyed = len(columns), len(key) or len(columns)
                if change[0] == 3:
                    check_pages(tables[table], change)
                    before = in_order(before, head, sequence)
                    yield head, sequence, tables[table], change
                    continue
                row, key_before = {0: change[1:] + [None], 1: change[1:], 2: [None] + change[1:]}[change[0]]
                assert row is None or len(row) == wide, "a row of other columns"
                assert key_before is None or len(key_before) == keyed, "another key"
                before = in_order(before, head, sequence)
                yield head, sequence, tables[table], change


def segment(data, own, site_keys, name):
    """Footer, changes by site, shared facts and unrouted changes of a segment that is stored under `name`."""
    offset, size, count, magic = struct.unpack("<QII8s", data[-24:])
    assert magic == b"LIFEBSEG" and offset + size + 24 == len(data), "a damaged tail"
    piece = lambda keys, kind, at, length, object_id=None: Object.whole(keys, kind, data[at : at + length], object_id)
    body = lambda found, kind=BODY: found.body(kind, *found.trailer()[:2])
    footer = body(piece(own, FOOTER, offset, size))
    assert (footer[0], footer[1], footer[2]) == name, "another segment"
    assert [ref[0] for ref in footer[6]] == sorted({ref[0] for ref in footer[6]}, key=str.encode), "not by site"
    places = [ref[1] for ref in footer[6]] + [footer[key] for key in (7,) if key in footer]
    places += [footer[key][0] for key in (8,) if key in footer]
    assert len(places) == count and sum(place[2] for place in places) == offset, "blocks do not fill the segment"
    assert all(place[1] == sum(before[2] for before in places[:at]) for at, place in enumerate(places)), "gaps"
    by_site = {}
    for site, (object_id, at, length), counts, first, last in footer[6]:
        rows = list(changes(piece(site_keys(site), BLOCK, at, length, object_id)))
        assert [sum(kind_of(row[3]) == kind for row in rows) for kind in (0, 1, 2)] == counts, "other changes"
        ends = [[row[0][1], row[1]] for row in (rows[0], rows[-1])]
        assert ends == [first, last] and footer[4][2][0] <= first[0] <= last[0] <= footer[4][2][1], "another span"
        by_site[site] = rows
    shared = body(piece(own, SHARED, *footer[7][1:], footer[7][0])) if 7 in footer else None
    unrouted = body(piece(own, UNROUTED, *footer[8][0][1:], footer[8][0][0])) if 8 in footer else None
    return footer, data[offset + 32 : offset + 48], by_site, shared, unrouted


def change_log(data, repo, site_key):
    """The change log among the vectors: an epoch, its two segments, a long one that stands for both, and a log commit."""
    epoch = Object.whole(repo.own, EPOCH, data["epoch.bin"])
    facts = epoch.body(BODY, *epoch.trailer()[:2])
    site_keys = lambda site: Site(site_key, repo.handle(site), 1)
    previous, complete_till, joined = data["epoch.bin"][32:48], facts[7], {}
    for number, name in enumerate(["segment-first.bin", "segment-last.bin"], 1):
        found = segment(data[name], repo.own, site_keys, (facts[1], facts[0], number))
        footer, footer_id, by_site, shared, unrouted = found
        assert (footer[3], footer[4][0]) == (previous, complete_till), "it does not follow from the one before"
        previous, complete_till = footer_id, footer[4][1]
        for site, rows in by_site.items():
            joined.setdefault(site, []).extend(rows)
            print(name, site, [(head[1], sequence, table[0], change) for head, sequence, table, change in rows])
        if unrouted:
            hashes = {repo.row_key_hash(facts[1], unrouted[0][row[1]][0], [b"5"]) for row in unrouted[1]}
            assert hashes == {row[3] for row in unrouted[1]}, "another hash of the key"
            print(name, "shared", shared, "unrouted", unrouted[1])
    assert footer[9] == facts[0] + 1
    long, long_id, long_by_site, *_ = segment(data["segment-long.bin"], repo.own, site_keys, (facts[1], facts[0], 2))
    assert long[10] == [1, previous] and long_id == b"\x3f" * 16, "it stands for other segments"
    assert (long[3], long[4][0], long[4][1]) == (data["epoch.bin"][32:48], facts[7], complete_till), "another span"
    assert long_by_site == joined, "other changes than in the segments it stands for"
    _, _, by_site, _, _ = segment(data["segment-pages.bin"], repo.own, site_keys, ("notes", 1, 1))
    for site, rows in by_site.items():
        print("segment-pages.bin", site, [(head[1], sequence, change[2]) for head, sequence, _, change in rows])
    commit = Object.whole(repo.own, LOG_COMMIT, data["log-commit.bin"])
    print("log-commit.bin", commit.body(BODY, *commit.trailer()[:2])[4])


def vectors():
    folder = Path(__file__).parent / "vectors" / "v1"
    data = {file.name: file.read_bytes() for file in folder.iterdir()}
    counting = lambda first: bytes(range(first, first + 32))
    repository = bytes.fromhex(config(data["lifeboat.json"])["repository"])
    for name, kind, credential in [("master", 1, counting(0)), ("recovery", 2, counting(0x20))]:
        wrapping = hkdf(credential, repository, "lifeboat/root-wrapping-key")
        under = hkdf(credential, b"", "lifeboat/key-id", 8)
        root = unwrap(data[f"root-key-{name}.bin"], wrapping, kind, 0, repository, under=under)
    repo = Repository(root, repository)
    wrapping = hkdf(root, repository, "lifeboat/signing-key-wrapping-key")
    signing = Ed25519PrivateKey.from_private_bytes(unwrap(data["signing-key.bin"], wrapping, 4, 0, repository))
    site = repo.site(repo.handle("acme"), 1, data["site-key.bin"])

    pack = Object.whole(site, PACK, data["pack.bin"], b"\xb0" * 16)
    offset, size, frames = pack.trailer()
    rows = pack.body(TABLE, offset, size)
    assert frames == len(rows) + 1
    print("pack.bin", [pack.chunk(*row)[:24] for row in rows])

    manifest = Object.whole(site, MANIFEST, data["manifest.bin"], b"\xb1" * 16)
    for part, entry, pieces in manifest_entries(manifest, *manifest.trailer()[:2], lambda row: pack):
        print("manifest.bin", part, entry[:12], [p if isinstance(p, int) else len(p) for p in pieces])

    index = Object.whole(site, INDEX, data["index.bin"], b"\xb2" * 16)
    tables = index.body(HEAD, *index.trailer()[:2])[1]
    found = [row for table in tables for row in index.body(TABLE, table[0], table[1])]
    assert sorted(row[:1] + row[2:] for row in found) == sorted(rows)
    print("index.bin", len(found), "rows, the same chunks as in the pack")

    for name in sorted(name for name in data if name.startswith("commit-")):
        commit = Object.whole(site, COMMIT, data[name])
        print(name, commit.body(BODY, *commit.trailer()[:2])[4])
    run = Object.whole(repo.own, RUN, data["run.bin"])
    print("run.bin", run.body(BODY, *run.trailer()[:2])[5])
    change_log(data, repo, counting(0x60))
    recoveries(repo, signing)
    drills(repo, site)
    lifecycle(site, Site(counting(0x60), repo.handle("acme"), 2))
    audit(repo)
    log_pruning(repo)
    log_highest(repo)


def recoveries(repo, signing):
    """A plan, whose hash its first entry approves, and an entry with every event."""
    folder = Path(__file__).parent / "vectors" / "v1-recoveries"

    def body(name, kind):
        found = Object.whole(repo.own, kind, (folder / name).read_bytes())
        return found.body(BODY, *found.trailer()[:2])

    plan = body("recovery-plan.bin", RECOVERY_PLAN)
    cases = [{key: case[key] for key in range(8) if key in case} for case in plan[6]]
    approved = {0: plan[0]} | ({1: plan[4]} if 4 in plan else {}) | {2: plan[5], 3: cases}
    plan_hash = hashlib.sha256(cbor2.dumps(approved)).digest()[:8].hex()
    print("recovery-plan.bin", plan_hash, [(case[0], case[3]) for case in plan[6]])
    first, entry = body("recovery-entry-first.bin", RECOVERY_ENTRY), body("recovery-entry.bin", RECOVERY_ENTRY)
    assert (first[0], first[1], first[5]) == (plan[0], 1, [[0, plan_hash]]), "another plan was approved"
    assert (entry[0], entry[1], entry[4]) == (plan[0], 5, 2)
    for code, *words in entry[5]:
        if code == 4:
            receipt = cbor2.dumps(words[1][0])
            signing.public_key().verify(words[1][1], b"lifeboat receipt 1\0" + plan[0] + receipt)
        print("recovery-entry.bin", code, words[:1])


def drills(repo, site):
    """A plan whose case is a rehearsal, and what a site's commit says of one that came out well."""
    folder = Path(__file__).parent / "vectors" / "v1-drills"
    plan = Object.whole(repo.own, RECOVERY_PLAN, (folder / "drill-plan.bin").read_bytes())
    plan = plan.body(BODY, *plan.trailer()[:2])
    assert [case[3][0] for case in plan[6]] == [2], "a rehearsal"
    commit = Object.whole(site, COMMIT, (folder / "commit-proven.bin").read_bytes())
    event, state = (commit.body(BODY, *commit.trailer()[:2])[key] for key in (4, 5))
    assert event[0] == 1 and event[3] == [0, state[6]] and state[6][3] == plan[0]
    print("commit-proven.bin", state[6])
    commit = Object.whole(site, COMMIT, (folder / "commit-drill-failed.bin").read_bytes())
    event, state = (commit.body(BODY, *commit.trailer()[:2])[key] for key in (4, 5))
    assert event[3] == [1, state[7]] and state[7][1] == plan[0]


def lifecycle(site, erased):
    """Points that end: each event with the state after it, and a site that goes on under its second key."""
    folder = Path(__file__).parent / "vectors" / "v1-lifecycle"
    said = {}
    for name, keys in [("forgot", site), ("undeleted", site), ("condemned", site), ("deleted", site), ("shredded", erased)]:
        commit = Object.whole(keys, COMMIT, (folder / f"commit-{name}.bin").read_bytes())
        said[name] = [commit.body(BODY, *commit.trailer()[:2])[key] for key in (4, 5)]
    event, state = said["forgot"]
    assert event[0] == 8 and [one[0] for one in state[2] if one.get(16) == event[2]] == event[1], "marked as forgotten"
    event, state = said["undeleted"]
    assert event[0] == 9 and not any(16 in one for one in state[2])
    event, state = said["condemned"]
    assert event[0] == 10 and state[8][-1] == {0: 7, 1: event[1][3], 2: event[1][4], 3: event[1][1]}
    assert said["deleted"][0] == [11, 6]
    event, state = said["shredded"]
    assert event[0] == 12 and state[1] == event[1][0] == 2 and state[2] == [] and state[9] == {0: 7, 1: event[1][2]}
    print("v1-lifecycle", sorted(said))


def log_pruning(repo):
    """Segments that are condemned, and the state of their epoch then; and that they are deleted."""
    folder = Path(__file__).parent / "vectors" / "v1-log-pruning"
    said = {}
    for name in ["condemned", "deleted"]:
        commit = Object.whole(repo.own, LOG_COMMIT, (folder / f"log-commit-{name}.bin").read_bytes())
        said[name] = [commit.body(BODY, *commit.trailer()[:2])[key] for key in (0, 4, 5)]
    number, event, state = said["condemned"]
    assert event[0] == 1 and state[3] == event[1][0], "where what is kept begins"
    first = state[3][0]
    assert all(long[2] >= first for long in state[2]), "no long segment reaches over it"
    waits = state[4][-1]
    assert {key: waits[key] for key in (0, 1, 2, 4)} == {0: number, 1: event[1][2], 2: event[1][3], 4: first}
    assert waits[3] == 1 and set(event[1][1]) < set(waits[5])
    number, event, state = said["deleted"]
    assert event == [2, number] and 4 not in state and state[3][0] == first
    print("v1-log-pruning", first, len(waits[5]))

    folder = Path(__file__).parent / "vectors" / "v1-log-marks"
    for name in ["marked", "ripe"]:
        commit = Object.whole(repo.own, LOG_COMMIT, (folder / f"log-commit-{name}.bin").read_bytes())
        said[name] = [commit.body(BODY, *commit.trailer()[:2])[key] for key in (4, 5)]
    event, marked = said["marked"]
    assert event == [3, marked[5][-1]] and 3 not in marked
    event, ripe = said["ripe"]
    assert event[0] == 1 and event[1][0] == ripe[3] == marked[5][0][0], "the first mark is ripe"
    assert ripe[5] == marked[5][1:]
    print("v1-log-marks", [mark[0][0] for mark in marked[5]])


def log_highest(repo):
    """A segment in which nothing was committed, and the highest number up to its end."""
    data = (Path(__file__).parent / "vectors" / "v1-log-highest" / "segment-idle.bin").read_bytes()
    footer, *_ = segment(data, repo.own, None, ("app", 2, 3))
    assert 2 not in footer[4] and footer[6] == []
    print("v1-log-highest", footer[4][3])


def audit(repo):
    """Three entries of the audit log, each of which names the one before; the last is of a version to come."""
    folder, previous = Path(__file__).parent / "vectors" / "v1-audit", bytes(32)
    for number, name in enumerate(["audit-first.bin", "audit-full.bin", "audit-later.bin"], 1):
        data = (folder / name).read_bytes()
        entry = Object.whole(repo.own, AUDIT_ENTRY, data)
        entry = entry.body(BODY, *entry.trailer()[:2])
        assert (entry[0], entry[1]) == (number, previous), "it does not follow from the one before"
        previous = hashlib.sha256(data).digest()
        sites = [f"site-{site:03}".encode() for site in range(entry[9][1])] if 2 in entry[9] else []
        every = hashlib.sha256(b"".join(struct.pack("<I", len(site)) + site for site in sites)).digest()
        assert not sites or (len(entry[9][0]), every) == (100, entry[9][2]), "other sites"
        print(name, entry[5], entry[6], entry[7], [target[0] for target in entry[10]])


def site(root_folder, key_file, name):
    folder = Path(root_folder)
    master = base64.b64decode(Path(key_file).read_text().strip())
    repository = bytes.fromhex(config((folder / "lifeboat.json").read_bytes())["repository"])
    under = hkdf(master, b"", "lifeboat/key-id", 8)
    wrapped = (folder / "keys" / "repository" / under.hex()).read_bytes()
    wrapping = hkdf(master, repository, "lifeboat/root-wrapping-key")
    repo = Repository(unwrap(wrapped, wrapping, 1, 0, repository, under=under), repository)

    handle = repo.handle(name)
    own = folder / "sites" / handle.hex()[:2] / handle.hex()
    keys = {}

    def opened(kind, kind_name, object_id, number=None, sealed_key=None):
        file = own / kind_name / object_id.hex()
        data = file.read_bytes() if sealed_key is None else None
        number = number or struct.unpack_from("<I", data, 12)[0]
        if number not in keys:
            keys[number] = repo.site(handle, number, (folder / "keys" / handle.hex() / f"{number:010}").read_bytes())
        if data is not None:
            return Object.whole(keys[number], kind, data, object_id)
        stream = file.open("rb")
        read = lambda at, size: (stream.seek(at), stream.read(size))[1]
        return Object(keys[number], kind, object_id, sealed_key, read, file.stat().st_size)

    newest = min((own / "commit").iterdir())
    data = newest.read_bytes()
    number = struct.unpack_from("<I", data, 12)[0]
    keys[number] = repo.site(handle, number, (folder / "keys" / handle.hex() / f"{number:010}").read_bytes())
    commit = Object.whole(keys[number], COMMIT, data)
    body = commit.body(BODY, *commit.trailer()[:2])
    assert body[0] == 2**64 - 1 - int(newest.name), "a commit under another name"
    snapshot = [snapshot for snapshot in body[5][2] if snapshot[3] == 0][-1]
    place = snapshot[2]
    manifest = opened(MANIFEST, "manifest", place[0])
    pack = lambda row: opened(PACK, "pack", row[0], row[2], row[3])
    count = size = 0
    for part, entry, pieces in manifest_entries(manifest, place[2], place[3], pack):
        print(part, entry[0].decode(errors="backslashreplace") or ".", entry[10], "bytes in", len(pieces), "extents")
        count, size = count + 1, size + entry[10]
    print(f"{count} entries, {size} bytes of snapshot {snapshot[0].hex()} at generation {snapshot[1]}, every chunk checked")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["vectors"]:
            vectors()
        case ["site", repository_folder, master_key_file, site_id]:
            site(repository_folder, master_key_file, site_id)
        case _:
            sys.exit(__doc__)
