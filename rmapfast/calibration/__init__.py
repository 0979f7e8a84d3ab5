"""Costs of the running kernel: measured, simulated and fitted."""

from rmapfast.calibration.cases import ReclaimCase
from rmapfast.calibration.fitting import PRIOR_SPREAD, PRIOR_WEIGHT, SCATTER, Fit, Rows
from rmapfast.calibration.machine import CalibrateError
from rmapfast.calibration.measure import Measurement
from rmapfast.calibration.run import Calibration, calibrate
from rmapfast.calibration.table import calibration_table

__all__ = [
    "PRIOR_SPREAD",
    "PRIOR_WEIGHT",
    "SCATTER",
    "CalibrateError",
    "Calibration",
    "Fit",
    "Measurement",
    "ReclaimCase",
    "Rows",
    "calibrate",
    "calibration_table",
]
