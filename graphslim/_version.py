"""The one place that states the version of graphslim."""

__version__ = "0.1.0"
