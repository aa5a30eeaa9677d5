"""The representation of bodies: content codings and character sets."""
