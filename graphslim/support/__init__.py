"""Helpers that every layer of the compiler uses: files, imports, and Python itself."""
