"""How fast graphslim is, how far it goes, and how fast what it writes runs: `make bench`."""
