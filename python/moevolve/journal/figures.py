"""Figures as people read them: one formatting for every reader of a journal."""

from __future__ import annotations

from decimal import Decimal


def money(amount: Decimal) -> str:
    """Money as plain digits, without an exponent or trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
