"""Let a Quart application act for its users at OAuth providers."""

__version__ = "0.1.0"
