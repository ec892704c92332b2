"""The compiled kernels of Moevolve's engine for cards: data beside this file, which needs neither a driver nor a card to be imported."""

__version__ = "0.1.0"
