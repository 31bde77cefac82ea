"""What a grid is: how an input is rounded, as plain numbers; and the registry from which saved grids are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

_FORMS: dict[str, type[InputGrid]] = {}


@dataclass(frozen=True)
class InputGrid(ABC):
    """How an input is rounded; `n_bits` are the total bits of a code."""

    form: ClassVar[str]
    n_bits: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a class with a `form` of its own known to `grid_from_dict`.

        Raises:
            TypeError: another class has that form.
        """
        super().__init_subclass__(**kwargs)
        form = cls.__dict__.get("form")
        if form is not None and _FORMS.setdefault(form, cls).__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__name__}: the form {form!r} is {_FORMS[form].__name__}'s")

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Fake quantization: the value of each element's code."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Least and greatest value; None: chosen at run time."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `grid_from_dict` is its inverse."""
        return {"form": self.form} | asdict(self)


@dataclass(frozen=True)
class Grid(InputGrid):
    """A finite set of values that a tensor is rounded to."""

    @property
    def num_levels(self) -> int:
        """How many codes the grid has."""
        return 2**self.n_bits

    @abstractmethod
    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of `x`, int64 in [0, num_levels)."""

    @abstractmethod
    def values(self, codes: Tensor) -> Tensor:
        """The values of integer codes, float64."""

    def __call__(self, x: Tensor) -> Tensor:
        """Fake quantization: the value of each element's code."""
        return self.values(self.codes(x)).to(x.dtype)

    def codebook(self) -> Tensor:
        """(num_levels,) float64: the value of each code in code order."""
        return self.values(torch.arange(self.num_levels))

    @property
    def bounds(self) -> tuple[float, float] | None:
        codebook = self.codebook()
        return codebook.min().item(), codebook.max().item()


def grid_from_dict(fields: dict[str, Any]) -> InputGrid:
    """The grid that `InputGrid.to_dict` described.

    Raises:
        ValueError: a form that no imported module defines.
    """
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    form = fields.pop("form")
    if form not in _FORMS:
        raise ValueError(
            f"grid form {form!r}: known are {', '.join(sorted(_FORMS))}; import the module that defines it"
        )
    return _FORMS[form](**fields)
