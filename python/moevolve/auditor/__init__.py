"""The audit: an independent reader of runs, which shares nothing with the code that wrote them but the records."""

from moevolve.auditor.report import AuditReport
from moevolve.auditor.run import audit, compare

__all__ = ["AuditReport", "audit", "compare"]
