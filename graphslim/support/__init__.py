"""What every other package may use: files, texts, progress and the like; nothing about graphs."""
