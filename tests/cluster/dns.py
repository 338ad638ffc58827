"""DNS server of the test cluster, which answers only for the names of services.

``NAME.NAMESPACE.svc.cluster.local`` is answered with the service's address, or with its pods' addresses if the service
is headless; ``POD.NAME.NAMESPACE.svc.cluster.local`` with one pod's address. Any other name is reported as nonexistent
at once: this cluster has no access to other networks, so forwarding the query would only take time.

Usage: dns.py ADDRESS KUBECONFIG
"""

import json
import socket
import struct
import subprocess
import sys
import time
from typing import Any

Names = dict[tuple[str, ...], list[str]]

ZONE = ("svc", "cluster", "local")
_PORT = 53
_TYPE_A, _CLASS_IN, _NO_SUCH_NAME = 1, 1, 3
_FLAGS = 0x8580  # an authoritative answer; recursion desired and available
_SECONDS = 2
"""Maximum age of a cached answer, for clients and for this server's copy of the cluster's addresses."""


def main() -> None:
    """Answer queries until the process ends."""
    address, kubeconfig = sys.argv[1:]
    names: Names = {}
    read_at = -float("inf")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, _PORT))
        while True:
            packet, client = server.recvfrom(512)
            try:
                if question(packet)[0][-3:] == ZONE and time.monotonic() - read_at > _SECONDS:
                    names, read_at = read_names(kubeconfig), time.monotonic()
                server.sendto(answer(packet, names), client)
            except (IndexError, ValueError, struct.error, OSError, subprocess.SubprocessError) as problem:
                print(f"dns: {problem!r}", file=sys.stderr, flush=True)


def read_names(kubeconfig: str) -> Names:
    """Return the addresses of every name in the zone; a name is the tuple of labels before the zone."""
    asked = ["kubectl", "--kubeconfig", kubeconfig, "get", "services,endpoints", "--all-namespaces", "--output", "json"]
    listed = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    names: Names = {}
    items = json.loads(listed)["items"]
    addresses = {_name(item): item["spec"].get("clusterIP") for item in items if item["kind"] == "Service"}
    names.update({name: [address] for name, address in addresses.items() if address not in (None, "", "None")})
    for item in items:
        if item["kind"] != "Endpoints" or addresses.get(_name(item)) != "None":
            continue
        for subset in item.get("subsets") or []:
            for pod in subset.get("addresses") or []:
                names.setdefault(_name(item), []).append(pod["ip"])
                host = pod.get("hostname") or (pod.get("targetRef") or {}).get("name")
                if host:
                    names[(host, *_name(item))] = [pod["ip"]]
    return names


def question(packet: bytes) -> tuple[tuple[str, ...], int, int]:
    """Return the labels and the type that a query asks for, and the end of its question."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", packet, at + 1)
    return tuple(labels), kind, at + 5


def answer(packet: bytes, names: Names) -> bytes:
    """Return the answer to a query; names with addresses have only records of type A."""
    labels, kind, end = question(packet)
    addresses = names.get(labels[:-3], []) if labels[-3:] == ZONE else []
    code = 0 if addresses else _NO_SUCH_NAME
    given = addresses if kind == _TYPE_A else []
    header = packet[:2] + struct.pack("!HHHHH", _FLAGS | code, 1, len(given), 0, 0)
    pointer = struct.pack("!HHHIH", 0xC00C, _TYPE_A, _CLASS_IN, _SECONDS, 4)
    return header + packet[12:end] + b"".join(pointer + socket.inet_aton(ip) for ip in given)


def _name(item: dict[str, Any]) -> tuple[str, ...]:
    return item["metadata"]["name"], item["metadata"]["namespace"]


if __name__ == "__main__":
    main()
