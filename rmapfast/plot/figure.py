"""The figure that all plots are drawn into. Importing this module imports matplotlib."""

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows by itself: matplotlib's own needs ``%matplotlib inline`` first."""

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows. After ``%matplotlib inline`` IPython does not ask."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
