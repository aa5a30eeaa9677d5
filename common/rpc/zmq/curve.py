"""CURVE encryption and authentication on ZeroMQ sockets."""

import logging
from types import SimpleNamespace

import zmq
from zmq.auth.thread import ThreadAuthenticator

from common.security.keyring import Keyring

_DOMAIN = "threefold"  # of ZAP, ZeroMQ's authentication protocol; a non-empty name is required


def key_pair() -> tuple[str, str]:
    """A new public key and its secret key, in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def public_half(secret: str) -> str:
    """The public key that belongs to a secret key, in Z85."""
    return zmq.curve_public(secret.encode()).decode()


def encrypt_client(socket: "zmq.Socket[bytes]", keyring: Keyring, server_key: str) -> None:
    """Make a client socket use the keys of this process, and connect only to a server with this public key."""
    _use_keys(socket, keyring)
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, server_key)


def encrypt_server(socket: "zmq.Socket[bytes]", keyring: Keyring) -> None:
    """Make a server socket use the keys of this process, and admit only clients that `admission` accepts."""
    _use_keys(socket, keyring)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # refuse everybody while there is no authenticator


def admission(context: "zmq.Context[zmq.Socket[bytes]]", keyring: Keyring) -> ThreadAuthenticator:
    """Start the ZAP authenticator that admits clients with a key in the keyring; it runs in a thread of its own."""
    logger = logging.getLogger("threefold.zap")
    logger.setLevel(logging.CRITICAL)  # the listener counts refusals
    authenticator = ThreadAuthenticator(context, log=logger)
    authenticator.start()
    credentials = SimpleNamespace(callback=lambda _domain, key: keyring.name_of(key.decode()) is not None)
    authenticator.configure_curve_callback(_DOMAIN, credentials)
    return authenticator


def _use_keys(socket: "zmq.Socket[bytes]", keyring: Keyring) -> None:
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keyring.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keyring.secret)
