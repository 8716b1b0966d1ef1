"""What the rest of the compiler stands on: files, imports, and Python itself."""
