"""Decoding in a process of its own, which hostile bytes may kill or hang without harm to the run.

guard.py starts such a process and watches it, child.py is what runs in it, protocol.py is how they talk.
"""
