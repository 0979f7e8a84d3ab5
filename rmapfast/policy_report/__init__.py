"""What the author of a patch needs: a policy checked, compared with its baseline, and written as one file."""

from rmapfast.policy_report.document import ENDINGS, PolicyReport, check_path
from rmapfast.policy_report.layouts import ORDERS
from rmapfast.policy_report.run import report

__all__ = ["ENDINGS", "ORDERS", "PolicyReport", "check_path", "report"]
