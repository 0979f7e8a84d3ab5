"""The result of one reclaim: counts, batch lengths, the price, and where they come from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from rmapfast import cost
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.cost import CostVector, Prediction
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import HtmlPart, Share, data_frame, dataset, format_size, html_of, price_text

if TYPE_CHECKING:
    from rmapfast.reference import YoungRule

# A policy of one's own for the reference engine: (folio, vma, walk, pte) -> nr.
PolicyFunction: TypeAlias = Callable[..., int]


def policy_name(policy: str | Policy | PolicyFunction | YoungRule) -> str:
    """Return the name of a policy, or of the functions that stand for it."""
    if isinstance(policy, str):
        return policy
    name: str = getattr(policy, "name", getattr(policy, "__name__", "callable"))
    return name


@dataclass(frozen=True)
class Outcome:
    """What an engine counted; :func:`rmapfast.reclaim` makes a :class:`Result` of it.

    Parameters
    ----------
    after : Population or None
        State after the run; None where the population was never in memory as a whole.
    events, referenced_events : ndarray of uint64, shape (len(EVENT_NAMES),)
        All counts, and the part of them that the reference checks counted.
    batch_lengths : dict of int to int
        Unmap steps by the number of entries that they cleared.
    wall_s : float
        Seconds that the engine took.
    swap_used : int
        Swap slots in use at the end less those at the start.
    ret : int or None
        What madvise returned.
    isolated, looked_around : dict of int to int
        Isolations by the base pages that they took, and look-arounds by the entries that they tested.
    """

    after: Population | None
    events: npt.NDArray[np.uint64]
    referenced_events: npt.NDArray[np.uint64]
    batch_lengths: dict[int, int]
    wall_s: float
    swap_used: int = 0
    ret: int | None = None
    isolated: dict[int, int] = field(default_factory=dict)
    looked_around: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Result:
    """One reclaim of one population under one policy on one architecture.

    Parameters
    ----------
    policy : Policy, callable, YoungRule or str
        A saved run has the name of a function in place of the function.
    arch : Arch
    entry : {'memory.reclaim', 'pageout', 'MADV_PAGEOUT', 'MADV_COLD', 'MADV_FREE'}
        The last three: one call of :func:`rmapfast.madvise`.
    target_pages : int
        Base pages asked for; for ``pageout`` all pages of the population, for a madvise call those of its range.
    population : dict
        What was reclaimed, as :meth:`Population.describe` gave it before the run.
    after : Population or None
        The population after the run; None for a saved run and for a population that was never in memory as a whole.
    reclaimed_pages : int
        Base pages that reclaim freed. More may have come back (:attr:`came_back_pages`).
    events : Events
        Counts by name.
    referenced_events : Events
        The part of each count that the reference checks (``folio_referenced_one``) counted.
    batch_lengths : dict of int to int
        Unmap steps by the number of entries that they cleared.
    wall_s : float
        Seconds that the simulation took, without making or copying the population.
    provenance : dict
        Versions, host and arguments.
    peak_rss_bytes : int or None
        Largest resident size of the process up to the end of the run; None where it is not known.
    costs : CostVector or None
        What the run is priced with; None where there is no cost vector for it.
    source : str
        Name of the result that the run is from, where :meth:`Comparison.of` put several together; else empty.
    ret : int or None
        What madvise returned: 0, -22 (EINVAL) or -12 (ENOMEM); of several calls the first that failed. None for
        memory.reclaim.
    swap_used : int
        Swap slots in use at the end less those at the start.
    lru : {'classic', 'mglru'}
        Which lists the kernel kept.
    isolated : dict of int to int
        Isolations (from the inactive list, or from the oldest generation) by the base pages that they took.
    looked_around : dict of int to int
        Look-arounds of MGLRU by the entries that they tested.

    Examples
    --------
    >>> import rmapfast as rf
    >>> result = rf.reclaim(rf.Population.synthetic("1MiB", orders=4), "512KiB", policy="v7.0", arch="arm64-4k")
    >>> result.events["ptes_cleared"], result.batch_lengths
    (144, {16: 9})
    >>> result.prediction.unit
    'ns'
    """

    policy: Policy | PolicyFunction | YoungRule | str
    arch: Arch
    entry: str
    target_pages: int
    population: dict[str, Any]
    after: Population | None = field(compare=False)
    reclaimed_pages: int
    events: Events
    referenced_events: Events
    batch_lengths: dict[int, int]
    provenance: dict[str, Any] = field(compare=False)
    costs: CostVector | None = None
    wall_s: float = field(default=0.0, compare=False)
    peak_rss_bytes: int | None = field(default=None, compare=False)
    source: str = field(default="", compare=False)
    ret: int | None = None
    swap_used: int = 0
    lru: str = "classic"
    isolated: dict[int, int] = field(default_factory=dict)
    looked_around: dict[int, int] = field(default_factory=dict)

    @property
    def policy_name(self) -> str:
        """Name of the policy, or of the function that stands for it."""
        return policy_name(self.policy)

    @property
    def reclaimed_bytes(self) -> int:
        """Bytes freed."""
        return self.reclaimed_pages << self.arch.page_shift

    @property
    def came_back_pages(self) -> int:
        """Base pages given back to the allocator in any way: freed by reclaim, or left without a mapping by a split."""
        return self.events["pages_came_back"]

    @property
    def target_reached(self) -> bool:
        """Whether as many pages were freed as asked for."""
        return self.reclaimed_pages >= self.target_pages

    @property
    def simulated_ptes(self) -> int:
        """Entries that the simulated unmap cleared."""
        return self.events["ptes_cleared"]

    @property
    def ptes_per_s(self) -> float:
        """Simulation speed: entries cleared per second of :attr:`wall_s`."""
        return self.simulated_ptes / self.wall_s if self.wall_s else 0.0

    def per_page(self, event: str) -> float:
        """Return an event's count per reclaimed base page (NaN if nothing was reclaimed).

        Parameters
        ----------
        event : str
            A name of :data:`rmapfast.EVENT_NAMES`.

        Returns
        -------
        float

        Raises
        ------
        KeyError
            If no event has that name; the message names the closest one.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.reclaim(rf.Population.synthetic("1MiB", orders=4), "512KiB").per_page("batches")
        0.0625
        """
        count = self.events[event]
        return count / self.reclaimed_pages if self.reclaimed_pages else float("nan")

    @cached_property
    def prediction(self) -> Prediction:
        """The price with the run's cost vector, :attr:`costs`.

        Raises
        ------
        ValueError
            If :attr:`costs` is None; the message says how to name a cost vector.
        """
        if self.costs is None:
            raise ValueError(
                f"prediction: {self.arch.name} has no cost vector; name one with reclaim(costs=...), price(costs), or "
                f"--costs; known are {', '.join(cost.names())}"
            )
        return self.price(self.costs)

    @overload
    def price(self, costs: np.ndarray[Any, Any]) -> npt.NDArray[np.float64]: ...

    @overload
    def price(
        self, costs: str | os.PathLike[str] | CostVector | Arch | None = None, *, level: float = cost.LEVEL
    ) -> Prediction: ...

    def price(
        self,
        costs: str | os.PathLike[str] | CostVector | Arch | np.ndarray[Any, Any] | None = None,
        *,
        level: float = cost.LEVEL,
    ) -> Prediction | npt.NDArray[np.float64]:
        """Price the run without simulating it again.

        Parameters
        ----------
        costs : str, path, CostVector, Arch or ndarray, optional
            A cost vector, its name or TOML file, or an architecture for its default one; by default the run's own
            (:attr:`costs`). Or many vectors at once, as an array of shape (k, len(EVENT_NAMES)):
            :meth:`CostVector.sample` and :func:`rmapfast.cost.matrix` return such arrays.
        level : float
            Share of the draws of the costs that the interval holds.

        Returns
        -------
        Prediction, or ndarray of float64, shape (k,)
            An array is in the unit of the costs that it was priced with.

        Raises
        ------
        TypeError, ValueError
            For an unknown name, for an architecture or a run without a cost vector, for an array of another shape or
            type, and for a cost that is negative or not finite; the message names it.

        Examples
        --------
        >>> import rmapfast as rf
        >>> result = rf.reclaim(rf.Population.synthetic("1MiB"), "80%", arch="x86-64")
        >>> result.price("ab-7.2.13").unit
        'instructions'
        """
        if costs is None:
            # Without a cost vector it raises.
            if self.costs is None or (isinstance(level, float) and level == cost.LEVEL):
                return self.prediction
            costs = self.costs
        if isinstance(costs, np.ndarray):
            return np.asarray(_checked_costs(costs) @ self.events.counts.astype(float))
        vector = resolve_costs(costs)
        if vector is None:
            raise ValueError(f"costs: {getattr(costs, 'name', costs)} has no cost vector")
        return vector.price(self.events.counts, self.referenced_events.counts, level=level)

    @property
    def unpriced(self) -> list[str]:
        """Events of the run that its cost vector has no price for; empty without a cost vector."""
        return self.costs.unpriced(self.events.counts) if self.costs else []

    def to_dict(self) -> dict[str, Any]:
        """Return the run as a dict that serialises to JSON; prices are None without a cost vector.

        Returns
        -------
        dict
        """
        return {
            "policy": self.policy_name,
            "arch": self.arch.name,
            "entry": self.entry,
            "lru": self.lru,
            "target_pages": self.target_pages,
            "reclaimed_bytes": self.reclaimed_bytes,
            "reclaimed_pages": self.reclaimed_pages,
            "target_reached": self.target_reached,
            "came_back_pages": self.came_back_pages,
            "swap_used": self.swap_used,
            "ret": self.ret,
            "events": dict(self.events),
            "referenced_events": {name: count for name, count in self.referenced_events.items() if count},
            "batch_lengths": _as_text(self.batch_lengths),
            "isolated": _as_text(self.isolated),
            "looked_around": _as_text(self.looked_around),
            **(self.prediction.to_dict() if self.costs else _NO_PRICE),
            "without_price": self.unpriced,
            "simulated_ptes": self.simulated_ptes,
            "wall_s": self.wall_s,
            "ptes_per_s": self.ptes_per_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "policy_parameters": _parameters(self.policy, "doc") if isinstance(self.policy, Policy) else None,
            "arch_parameters": _parameters(self.arch, "costs") | {"costs": self._default_costs()},
        }

    def _default_costs(self) -> str | dict[str, Any] | None:
        """Return the architecture's default cost vector: its name, the vector, or None if it is the run's own."""
        if isinstance(self.arch.costs, str):
            return self.arch.costs
        return None if self.arch.costs == self.costs else self.arch.costs.to_dict()

    def to_xarray(self) -> Any:
        """Return the run as an xarray.Dataset.

        Returns
        -------
        xarray.Dataset
            ``events`` along ``event``, ``batch_lengths`` along ``nr``, ``reclaimed_pages``; and, if the run has a cost
            vector, ``predicted``, ``predicted_interval`` along ``bound`` and ``breakdown`` along ``component``.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        lengths = sorted(self.batch_lengths.items())
        variables: dict[str, Any] = {
            "events": ("event", self.events.counts, {"units": "1"}),
            "batch_lengths": ("nr", np.array([count for _, count in lengths], np.uint64), {"units": "1"}),
            "reclaimed_pages": ((), self.reclaimed_pages, {"units": "base pages"}),
        }
        coordinates: dict[str, Any] = {
            "event": list(EVENT_NAMES),
            "nr": ("nr", [nr for nr, _ in lengths], {"units": "pages"}),
        }
        attributes = {"policy": self.policy_name, "arch": self.arch.name, "entry": self.entry, "rmapfast": __version__}
        if self.costs:
            prediction = self.prediction
            unit = {"units": prediction.unit}
            variables |= {
                "predicted": ((), prediction.value, unit),
                "predicted_interval": ("bound", list(prediction.interval), unit),
                "breakdown": ("component", list(prediction.breakdown.values()), unit),
            }
            coordinates |= {"bound": ["low", "high"], "component": list(prediction.breakdown)}
            attributes["cost_vector"] = prediction.costs
        return dataset(variables, coordinates, attributes)

    def to_dataframe(self) -> Any:
        """Return the events as a pandas.DataFrame, a row per event.

        Returns
        -------
        pandas.DataFrame
            Columns ``event``, ``count``, ``referenced`` (the part that the reference checks counted), ``per_page``
            (per reclaimed base page) and, if the run has a cost vector, ``cost`` per event in its unit.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        pages = float(self.reclaimed_pages) or np.nan
        columns = {
            "event": list(EVENT_NAMES),
            "count": self.events.counts,
            "referenced": self.referenced_events.counts,
            "per_page": self.events.counts / pages,
        }
        return data_frame(columns | ({f"cost_{self.costs.unit}": self.costs.values} if self.costs else {}))

    @property
    def _facts(self) -> str:
        """What was reclaimed of what was asked for, and through what."""
        return (
            f"{format_size(self.reclaimed_bytes)} reclaimed of {format_size(self.target_pages << self.arch.page_shift)}"
            " asked"
        )

    def __repr__(self) -> str:
        """What was reclaimed, in how many steps, and the price."""
        steps = self.events["batches"]
        mean = self.events["batched_pages"] / steps if steps else 0.0
        price = f", predicted {price_text(self.prediction.unit, self.prediction.value)}" if self.costs else ""
        return (
            f"<Result {self.policy_name} on {self.arch.name}: {self._facts}, {steps:,} steps of {mean:.2f} pages, "
            f"{self.per_page('walk_pte_reads'):.2f} walk reads per page{price}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the price by component, the events, and where they are from."""
        counted = [(event, count, self.per_page(event)) for event, count in self.events.items() if count]
        steps = sum(self.batch_lengths.values())
        pages = sum(nr * count for nr, count in self.batch_lengths.items())
        lengths = [(nr, count, Share(nr * count / pages)) for nr, count in sorted(self.batch_lengths.items())]
        parts = [self.prediction.html_part()] if self.costs else []
        if self.unpriced:
            more = str(len(self.unpriced))
            parts.append(HtmlPart("without a price", [[event] for event in self.unpriced], more=more))
        parts += [
            HtmlPart("unmap steps", lengths, ("pages", "steps", "of the pages"), more=f"{steps:,}"),
            HtmlPart("events", counted, ("event", "count", "per page"), more=f"{len(counted)} of {len(EVENT_NAMES)}"),
            HtmlPart("population", _shown(self.population), more=str(self.population["source"])),
            HtmlPart("provenance", _shown(self.provenance), more=f"rmapfast {self.provenance.get('rmapfast', '')}"),
        ]
        lists = ", multi-gen LRU" if self.lru == "mglru" else ""
        return html_of(
            "Result", f"{self.policy_name} on {self.arch.name}", f"{self._facts} ({self.entry}{lists})", parts
        )


def _shown(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what a notebook shows of a mapping: a row per value, those of an inner mapping by themselves."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        inner = value if isinstance(value, dict) else {}
        rows += [(f"{name}: {key}", one) for key, one in inner.items()] or [(name, value)]
    return rows


def _as_text(lengths: dict[int, int]) -> dict[str, int]:
    return {str(length): count for length, count in sorted(lengths.items())}


def _parameters(preset: Policy | Arch, without: str) -> dict[str, Any]:
    """Return the fields of a policy or an architecture without its name and the field `without`."""
    names = (one.name for one in dataclasses.fields(preset) if one.name not in ("name", without))
    return {name: getattr(preset, name) for name in names}


_NO_PRICE = dict.fromkeys(("cost_vector", "predicted_s", "predicted_interval_s", "interval_level", "breakdown_s"))


def resolve_costs(costs: str | os.PathLike[str] | CostVector | Arch) -> CostVector | None:
    """Return the cost vector that an argument `costs` means; None for an architecture without one.

    Raises
    ------
    TypeError
        If the argument is something else.
    ValueError, OSError
        If no vector has that name, or the file cannot be read or is not a cost vector.
    """
    if isinstance(costs, Arch):
        return costs.cost_vector
    if not isinstance(costs, str | os.PathLike | CostVector):
        raise TypeError(
            f"costs: expected a CostVector, the name or TOML file of one, an Arch, or a float array of shape "
            f"(k, {len(EVENT_NAMES)}), got {repr(costs)[:60]}"
        )
    return cost.get(costs)


def _checked_costs(costs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the array if its rows are cost vectors; raise TypeError or ValueError otherwise."""
    expected = f"expected a float array of shape (k, {len(EVENT_NAMES)}), one row per vector"
    if costs.ndim != 2 or costs.shape[1] != len(EVENT_NAMES):
        raise ValueError(f"costs: {expected}, got shape {costs.shape}")
    if not np.issubdtype(costs.dtype, np.floating):
        raise TypeError(f"costs: {expected}, got {costs.dtype}; convert with costs.astype(float)")
    # One pass each, and no array of truth values; NaN and infinity show in the minimum or the maximum.
    if costs.size and not (costs.min() >= 0 and costs.max() < np.inf):
        row, event = np.argwhere(~((costs >= 0) & np.isfinite(costs)))[0]
        raise ValueError(
            f"costs[{row}, {event}] ({EVENT_NAMES[event]}): expected a finite cost, 0 or more, got {costs[row, event]}"
        )
    # The order of a sum, and so its last digit, would depend on the layout.
    return np.ascontiguousarray(costs, dtype=float)
