"""Measured rows, the fits of the cost vectors to them, and the page that says how well they fit."""
