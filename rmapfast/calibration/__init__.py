"""Costs of the kernel that is running: measured, simulated and fitted."""

from rmapfast.calibration.fitting import PRIOR_WEIGHT, SCATTER, Fit, fit_costs
from rmapfast.calibration.measure import CalibrateError, Calibration, Measurement, calibrate
from rmapfast.calibration.table import calibration_table

__all__ = [
    "PRIOR_WEIGHT",
    "SCATTER",
    "CalibrateError",
    "Calibration",
    "Fit",
    "Measurement",
    "calibrate",
    "calibration_table",
    "fit_costs",
]
