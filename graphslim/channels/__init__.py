"""Channels: which axes hold them, which of them belong together, and which have to stay."""
