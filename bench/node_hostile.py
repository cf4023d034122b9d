"""Does a node survive hostile messages?

    python -m bench.node_hostile [MESSAGES]

By default 5,000: PDUs with changed bytes, lengths that are wrong, associations that end in the middle, instances with
UIDs that are paths, deflated instances that grow, peers that begin and do not go on. Every now and then an honest peer
asks for C-ECHO. In the end the node runs, holds no more files open than before, and has written nothing outside its
spool. (tests/node/test_hostile.py does the same with fewer.)
"""

import random
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from bench.node_peers import SENDER, NodeProcess, wait_for

MODEL = Path(__file__).parents[1] / "models" / "phantom-cnn.onnx"
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
ECHO_EVERY = 50
SLOW_PEERS = 6
"""At the same time; each takes one of the node's associations."""

BAD_UIDS = (
    *(
        "..",
        "../../etc/passwd",
        "/etc/x",
        "1.2\0.3",
        "\0",
        "1.2.3\\..",
        "1" * 500,
        "",
        "1.2.3/../../x",
        "%2e%2e",
        "CON",
    ),
    "1.2 .3",
)
"""What must become the name of no file."""

Random = random.Random


def item(kind: int, data: bytes) -> bytes:
    """An item of an association request."""
    return struct.pack(">BBH", kind, 0, len(data)) + data


def pdu(kind: int, data: bytes) -> bytes:
    """A PDU."""
    return struct.pack(">BBI", kind, 0, len(data)) + data


def associate_request(syntax: str = EXPLICIT, called: str = "CT3D-EDGE", calling: str = SENDER) -> bytes:
    """A-ASSOCIATE-RQ with one presentation context, for CT images."""
    context = bytes([1, 0, 0, 0]) + item(0x30, CTImageStorage.encode()) + item(0x40, syntax.encode())
    user = item(0x51, struct.pack(">I", 1 << 16)) + item(0x52, b"1.2.3.4")
    head = struct.pack(">HH16s16s32s", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode(), b"")
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user))


def fragment(data: bytes, *, command: bool, last: bool = True) -> bytes:
    """P-DATA-TF with one fragment."""
    return pdu(4, struct.pack(">IBB", len(data) + 2, 1, command + 2 * last) + data)


def store_command(instance: bytes) -> bytes:
    """The command set of C-STORE."""
    elements = [
        (0x0002, CTImageStorage.encode()),
        (0x0100, struct.pack("<H", 1)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0)),
        (0x1000, instance),
    ]
    encoded = b"".join(
        struct.pack("<HHI", 0, tag, len(value) + len(value) % 2) + value + bytes(len(value) % 2)
        for tag, value in elements
    )
    return struct.pack("<HHII", 0, 0, 4, len(encoded)) + encoded


def data_set(instance: bytes, series: bytes) -> bytes:
    """The first elements of an instance, explicit VR, little endian."""
    elements = [((8, 0x16), CTImageStorage.encode()), ((8, 0x18), instance), ((0x20, 0x0E), series)]
    return b"".join(
        struct.pack("<HH2sH", *tag, b"UI", len(value) + len(value) % 2) + value + bytes(len(value) % 2)
        for tag, value in elements
    )


class Attacker:
    """Sends hostile messages to a node of this machine."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._port, self._chance = port, Random(seed)
        self._slow: list[socket.socket] = []
        self._attacks: Sequence[Callable[[], None]] = (
            self._send_noise,
            self._send_changed_request,
            self._send_half_request,
            self._announce_much,
            self._send_changed_store,
            self._send_bad_uids,
            self._send_growing,
            self._send_wrong_lengths,
            self._send_endless_fragments,
            self._leave_in_the_middle,
            self._send_slowly,
        )

    def attack(self) -> None:
        """Send one message, whatever becomes of it."""
        with suppress(OSError):
            self._chance.choice(self._attacks)()

    def close(self) -> None:
        """Let the slow peers go."""
        for connection in self._slow:
            connection.close()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=5)

    def _send(self, *messages: bytes, syntax: str | None = None) -> None:
        """Send messages, in an association if there is a syntax, and read one answer at most."""
        with self._connect() as connection:
            if syntax:
                connection.sendall(associate_request(syntax))
                connection.recv(4096)
            connection.settimeout(0.1)
            for message in messages:
                connection.sendall(message)
            with suppress(TimeoutError):
                connection.recv(4096)

    def _change(self, data: bytes, most: int = 8) -> bytes:
        changed = bytearray(data)
        for _ in range(self._chance.randint(1, most)):
            changed[self._chance.randrange(len(changed))] = self._chance.randrange(256)
        return bytes(changed)

    def _send_noise(self) -> None:
        self._send(self._chance.randbytes(self._chance.randint(1, 3000)))

    def _send_changed_request(self) -> None:
        self._send(self._change(associate_request()))

    def _send_half_request(self) -> None:
        request = associate_request()
        with self._connect() as connection:
            connection.sendall(request[: self._chance.randrange(len(request))])

    def _announce_much(self) -> None:
        self._send(struct.pack(">BBI", self._chance.choice((1, 4)), 0, 0xFFFFFFF0) + bytes(100))

    def _send_changed_store(self) -> None:
        message = fragment(store_command(b"1.2.3.4"), command=True) + fragment(
            data_set(b"1.2.3.4", b"1.2.3"), command=False
        )
        self._send(self._change(message), syntax=EXPLICIT)

    def _send_bad_uids(self) -> None:
        instance, series = (self._chance.choice(BAD_UIDS).encode() for _ in range(2))
        self._send(
            fragment(store_command(instance), command=True),
            fragment(data_set(instance, series), command=False),
            syntax=EXPLICIT,
        )

    def _send_growing(self) -> None:
        """A deflated data set of 200 kB that inflates to 200 MB."""
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        begin = data_set(b"1.2.3.4", b"1.2.3") + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 200 << 20)
        data = compressor.compress(begin) + b"".join(compressor.compress(bytes(1 << 20)) for _ in range(200))
        data += compressor.flush()
        whole = fragment(data, command=False)
        self._send(fragment(store_command(b"1.2.3.4"), command=True), whole, syntax=DEFLATED)

    def _send_wrong_lengths(self) -> None:
        data = store_command(b"1.2.3.4")
        length = self._chance.choice((0, 1, 2, len(data), len(data) + 1, 0xFFFFFFFF))
        self._send(pdu(4, struct.pack(">IBB", length, self._chance.choice((0, 1, 3, 255)), 3) + data), syntax=EXPLICIT)

    def _send_endless_fragments(self) -> None:
        """Fragments of a command that never ends."""
        self._send(*[fragment(bytes(1000), command=True, last=False)] * self._chance.randint(1, 50), syntax=EXPLICIT)

    def _leave_in_the_middle(self) -> None:
        """Abort or close while an instance is being sent."""
        abort = self._chance.choice((b"", pdu(7, bytes(4)), pdu(5, bytes(4))))
        store = fragment(store_command(b"1.2.3.4"), command=True)
        self._send(store, fragment(bytes(5000), command=False, last=False), abort, syntax=EXPLICIT)

    def _send_slowly(self) -> None:
        """Begin a request and stay."""
        if len(self._slow) >= SLOW_PEERS:
            self._slow.pop(0).close()
        connection = self._connect()
        self._slow.append(connection)
        connection.sendall(associate_request()[: self._chance.randint(1, 60)])


def answers_echo(port: int) -> bool:
    """Whether the node answers C-ECHO of an honest peer."""
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(Verification)
    entity.acse_timeout = entity.dimse_timeout = 20
    association = entity.associate("127.0.0.1", port, ae_title="CT3D-EDGE")
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return bool(status == 0)


def attack_node(node: NodeProcess, messages: int, seed: int = 0) -> list[str]:
    """Send hostile messages; what went wrong, in words."""
    assert answers_echo(node.port)  # noqa: S101
    before, faults = _count_files(node), []
    attacker = Attacker(node.port, seed)
    for number in range(1, messages + 1):
        attacker.attack()
        if node.process.poll() is not None:
            return [f"the node ended after message {number}"]
        if number % ECHO_EVERY == 0 and not answers_echo(node.port):
            faults.append(f"no answer to C-ECHO after message {number}")
    attacker.close()
    try:
        wait_for(lambda: _count_files(node) <= before + 2, "the node closes its files")
    except TimeoutError:
        faults.append(f"{_count_files(node)} files are open; {before} were before")
    if "Traceback" in node.log.read_text():
        faults.append(f"a traceback is in {node.log}")
    return faults


def _count_files(node: NodeProcess) -> int:
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def main() -> None:
    """Attack a node with the bundled model."""
    messages = int(sys.argv[1]) if sys.argv[1:] else 5000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = NodeProcess(
            folder / "spool", MODEL, "--stable-for", "5", "--network-timeout", "5"
        ).wait_until_listening()
        try:
            faults = attack_node(node, messages)
            faults += [str(path) for path in folder.iterdir() if path not in (node.spool, node.log)]
            if faults:
                print(node.log.read_text()[-5000:])
        finally:
            node.kill()
    print("\n".join(faults))
    print(f"{messages} messages: {len(faults)} faults")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
