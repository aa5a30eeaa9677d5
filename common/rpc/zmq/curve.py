"""CURVE: the keys of our processes on ZeroMQ sockets, and who is let in."""

import logging
from types import SimpleNamespace

import zmq
from zmq.auth.thread import ThreadAuthenticator

from common.security.keyring import Keyring

_DOMAIN = "threefold"  # of ZAP; it must have some name


def key_pair() -> tuple[str, str]:
    """A new public key and its secret one, in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_half(secret: str) -> str:
    """The public key of a secret one, in Z85."""
    return zmq.curve_public(secret.encode()).decode()


def encrypt_client(socket: "zmq.Socket[bytes]", keyring: Keyring, server_key: str) -> None:
    """Use the keys of this process, to a server with that public key."""
    _use_keys(socket, keyring)
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, server_key)


def encrypt_server(socket: "zmq.Socket[bytes]", keyring: Keyring) -> None:
    """Use the keys of this process, and let in nobody whom `admission` does not know."""
    _use_keys(socket, keyring)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer nobody is let in


def admission(context: "zmq.Context[zmq.Socket[bytes]]", keyring: Keyring) -> ThreadAuthenticator:
    """What libzmq asks (ZAP) for each new connection, in a thread of its own."""
    quiet = logging.getLogger("threefold.zap")
    quiet.setLevel(logging.CRITICAL)  # refusals are counted by the listener
    made = ThreadAuthenticator(context, log=quiet)
    made.start()
    known = SimpleNamespace(callback=lambda _domain, key: keyring.name_of(key.decode()) is not None)
    made.configure_curve_callback(_DOMAIN, known)
    return made


def _use_keys(socket: "zmq.Socket[bytes]", keyring: Keyring) -> None:
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keyring.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keyring.secret)
