#!/usr/bin/env python3
"""Ends TLS (OpenSSL's) in front of a tracker that has none: tls_proxy.py LISTEN PORT BACKEND-PORT
CERT KEY. Each stream goes on to the backend on the same address, from the address of whoever made
it, so that the tracker sees its peers and not this. Only for the addresses of a cell, which are all
on this machine.
"""

import socket
import ssl
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError as error:
        print(f"stream: {error}", flush=True)


def serve(plain, context, backend):
    peer = plain.getpeername()[0]
    try:
        stream = context.wrap_socket(plain, server_side=True)
    except (ssl.SSLError, OSError) as error:
        print(f"handshake: {error}", flush=True)
        return
    onward = socket.create_connection(backend, source_address=(peer, 0))
    back = threading.Thread(target=pump, args=(stream, onward), daemon=True)
    back.start()
    pump(onward, stream)
    try:
        stream.unwrap()
    except (ssl.SSLError, OSError):
        pass
    stream.close()
    onward.close()


def main():
    address, port, backend, cert, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server((address, int(port)))
    while True:
        plain, _ = listener.accept()
        args = (plain, context, (address, int(backend)))
        threading.Thread(target=serve, args=args, daemon=True).start()


main()
