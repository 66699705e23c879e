"""Compiled loops and nothing else: serial inside, and they release the GIL."""
