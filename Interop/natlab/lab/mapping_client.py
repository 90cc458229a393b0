"""The three ways to ask a router for a port, as plainly as they can be: UPnP IGD, NAT-PMP (RFC 6886) and PCP (RFC 6887)."""

import re
import socket
import struct
import urllib.parse

from .sockets import arrived

GATEWAY = "192.168.1.1"


def natpmp(site, port):
    """The external port that NAT-PMP gave for a UDP port, or None without an answer."""
    return _ask(site, struct.pack("!BBHHHI", 0, 1, 0, port, port, 3600),
                lambda answer: struct.unpack("!H", answer[10:12])[0] if answer[:4] == b"\0\x81\0\0" else None)


def pcp(site, port):
    """The same by PCP's MAP."""
    own = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(site.address)
    anywhere = b"\0" * 10 + b"\xff\xff" + b"\0" * 4
    request = struct.pack("!BBHI", 2, 1, 0, 3600) + own + b"nonce of 12." + struct.pack("!B3xHH", 17, port, port) + anywhere
    return _ask(site, request, lambda answer: struct.unpack("!H", answer[42:44])[0] if answer[:4] == b"\x02\x81\0\0" else None)


def _ask(site, request, external_port):
    with site.host.socket(socket.SOCK_DGRAM) as asking:
        asking.sendto(request, (GATEWAY, 5351))
        found = arrived([asking], 1.0, bool)
        return external_port(found[0][1]) if found else None


def upnp(site, port):
    """The same by UPnP IGD: a search, the router's description, AddPortMapping."""
    target = "urn:schemas-upnp-org:service:WANIPConnection:1"
    with site.host.socket(socket.SOCK_DGRAM) as searching:
        search = f'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: {target}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n\r\n'
        searching.sendto(search.encode(), ("239.255.255.250", 1900))
        found = arrived([searching], 2.0, bool)
    if not found:
        return None
    place = urllib.parse.urlparse(re.search(rb"LOCATION: (\S+)", found[0][1], re.IGNORECASE)[1].decode())
    description = _http(site, place, f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n")
    # Found by version 1, described as version 2: those answer to both.
    target, control = re.search(r"(urn:\S+:WANIPConnection:\d)</serviceType>.*?<controlURL>([^<]+)<", description, re.DOTALL).groups()
    body = (f'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<u:AddPortMapping xmlns:u="{target}"><NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>'
            f'<NewProtocol>UDP</NewProtocol><NewInternalPort>{port}</NewInternalPort><NewInternalClient>{site.address}'
            '</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>natlab</NewPortMappingDescription>'
            '<NewLeaseDuration>3600</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>')
    answer = _http(site, place, f"POST {control} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\nContent-Type: text/xml\r\n"
                                f'SOAPAction: "{target}#AddPortMapping"\r\nContent-Length: {len(body)}\r\n\r\n{body}')
    return port if "AddPortMappingResponse" in answer else None


def _http(site, place, request):
    with site.host.socket(socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect((place.hostname, place.port))
        connection.sendall(request.encode())
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    return answer.decode(errors="replace")
