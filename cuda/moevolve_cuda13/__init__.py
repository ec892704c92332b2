"""The compiled kernels of Moevolve's engine for cards: data beside this file, imported without a driver."""

__version__ = "0.1.0"
